"""How a depthwise conv and the pointwise conv after it are fitted, without a step of descent.

The output is linear in the kernels for fixed pointwise weights, and in these for fixed kernels. So
least squares alternates between the two. All of it follows from the second moments of the patches.
It starts with the best kernel of each channel alone, a singular vector of the weights that least
squares gives without the restriction.

Suffixes: F features (channels x positions of the kernel), C channels, K positions of the kernel,
O outputs.
"""

from dataclasses import replace

import torch
from torch import nn

from refiner.distill.candidate_fit import Conv, set_by_least_squares
from refiner.distill.least_squares import ridged
from refiner.distill.moments import Moments
from refiner.distill.patches import PatchSums, RowSums
from refiner.training.devices import Devices

_RIDGE = 1e-4
_ROUNDS = 10
"""Of alternating, at most."""
_ENOUGH = 0.01
"""Share of the error; a round that brings less is the last."""
_TINY = 1e-12


class DepthwiseFit:
    """A candidate that is a depthwise conv and a pointwise conv; both have closed forms.

    Args:
        operation: the candidate.
        depthwise: its depthwise conv, without a bias.
        pointwise: its last conv.
        sums: over what a dense conv in the place of the depthwise one reads.
        centred: whether the next layer subtracts the mean of each channel.
    """

    def __init__(
        self,
        operation: nn.Module,
        depthwise: Conv,
        pointwise: Conv,
        sums: PatchSums,
        *,
        centred: bool,
    ) -> None:
        self.operation, self.depthwise, self.pointwise = operation, depthwise, pointwise
        self.centred = centred or pointwise.bias is not None
        self.sums: RowSums[object] | None = sums
        self._sums = sums
        self.error = self.fit_error = float("nan")

    def parameters(self) -> list[nn.Parameter]:
        """Return no parameter: closed forms settle both convs."""
        return []

    def solve(self, devices: Devices) -> None:
        """Set both convs."""
        fit, held_out = self._sums.moments(devices)
        kernel_CK = best_kernels(
            fit.centred() if self.centred else fit,
            fit.centred().square_C,
            len(self.depthwise.weight),
        )
        with torch.no_grad():
            self.depthwise.weight.copy_(kernel_CK.reshape(self.depthwise.weight.shape))
        self.error, self.fit_error = set_by_least_squares(
            self.pointwise,
            filtered(fit, kernel_CK),
            filtered(held_out, kernel_CK),
            centred=self.centred,
        )


def filtered(moments: Moments, kernel_CK: torch.Tensor) -> Moments:
    """Return the moments of the outputs of a depthwise conv from those of the patches it reads."""
    shape = kernel_CK.shape
    half_CKC = (moments.gram_FF.unflatten(1, shape) * kernel_CK).sum(2).unflatten(0, shape)
    return replace(
        moments,
        gram_FF=(half_CKC * kernel_CK[:, :, None]).sum(1),
        cross_FC=(moments.cross_FC.unflatten(0, shape) * kernel_CK[:, :, None]).sum(1),
        mean_F=(moments.mean_F.unflatten(0, shape) * kernel_CK).sum(1),
    )


def best_kernels(moments: Moments, variance_O: torch.Tensor, channels: int) -> torch.Tensor:
    """Return the kernels of a depthwise conv, C x K, that is followed by a pointwise conv.

    Args:
        moments: of the patches and of the targets.
        variance_O: of the targets, which count in its units.
        channels: number of channels C.
    """
    scale_O = variance_O.clamp(min=_TINY + 1e-3 * variance_O.mean()).sqrt()
    equations = ridged(moments, _RIDGE, None)
    gram_FF, cross_FO = equations.left_FF, equations.right_FC
    moments = replace(moments, gram_FF=gram_FF, cross_FC=cross_FO / scale_O)
    total = float((moments.square_C / scale_O.square()).sum())
    kernel_CK, before = _alone(moments, equations.factor_FF, channels), float("inf")
    gram_CKCK = gram_FF.view(channels, -1, channels, len(gram_FF) // channels)
    for _ in range(_ROUNDS):
        outputs = filtered(moments, kernel_CK)
        pointwise_CO = _solved(outputs.gram_FF, outputs.cross_FC)
        error = total - float((pointwise_CO * outputs.cross_FC).sum())
        if not error < (1 - _ENOUGH) * before:
            break
        before = error
        weights_CC = pointwise_CO @ pointwise_CO.T
        right_CK = (moments.cross_FC.unflatten(0, kernel_CK.shape) * pointwise_CO[:, None]).sum(2)
        system_FF = (gram_CKCK * weights_CC[:, None, :, None]).reshape_as(gram_FF)
        kernel_CK = _unit(_solved(system_FF, right_CK.reshape(-1, 1)).reshape(kernel_CK.shape))
    return kernel_CK


def _alone(moments: Moments, factor_FF: torch.Tensor, channels: int) -> torch.Tensor:
    """Return the best kernel of each channel when the others keep a kernel for each output."""
    weight_FO = torch.cholesky_solve(moments.cross_FC, factor_FF)
    blocks = moments.gram_FF.unflatten(0, (channels, -1)).unflatten(2, (channels, -1))
    every = torch.arange(channels, device=weight_FO.device)
    factor_CKK = torch.linalg.cholesky(blocks[every, :, every])
    left_CKO = factor_CKK.mT @ weight_FO.unflatten(0, (channels, -1))
    vector_CK = torch.linalg.eigh(left_CKO @ left_CKO.mT).eigenvectors[:, :, -1]
    kernel_CK1 = torch.linalg.solve_triangular(factor_CKK.mT, vector_CK[:, :, None], upper=True)
    return _unit(kernel_CK1.squeeze(2))


def _solved(gram: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the solution of symmetric equations with a small ridge."""
    gram.diagonal().add_((1e-6 * gram.diagonal().mean()).clamp(min=_TINY))
    return torch.cholesky_solve(right, torch.linalg.cholesky(gram))


def _unit(kernel_CK: torch.Tensor) -> torch.Tensor:
    """Return the kernels at length 1, as the pointwise conv sets the scale."""
    return nn.functional.normalize(kernel_CK, dim=1, eps=_TINY)
