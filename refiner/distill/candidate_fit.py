"""How one candidate is fitted to the conv that it may replace: one class per kind of candidate.

A candidate that ends in a dense conv, as all of the paper's do, gets the last conv that is best for
the layers before it, by least squares. A candidate of low rank gets both of its convs from the
principal components of the output; a depthwise one is in ``depthwise.py``. Adam learns what no
closed form settles.

The error of a candidate is its squared error over the variance of the conv's output, per channel.
It is 0 for the conv itself, and 1 for a candidate that is as good as the mean.

Suffixes: F features, C channels of the output, R components.
"""

from typing import Protocol

import torch
from torch import nn

from refiner.distill.least_squares import mean_error, solve
from refiner.distill.moments import Moments
from refiner.distill.patches import PatchSums, RowSums
from refiner.training.devices import Devices

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d

_LEAST_VARIANCE = 1e-3
"""Least variance of a channel in the error, in units of the mean over the channels."""
_TINY = 1e-8


class CandidateFit(Protocol):
    """Fits one candidate to one conv; the operation is changed in place."""

    operation: nn.Module
    """The candidate."""
    centred: bool
    """Whether the next layer, or a bias, makes the means of the channels free."""
    sums: RowSums[object] | None
    """What the closed form needs; None where there is none."""
    error: float
    """On rows held out from the closed form; NaN where none has been solved."""
    fit_error: float
    """The same on the rows of the closed form."""

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters that Adam learns; empty where a closed form settles them all."""

    def solve(self, devices: Devices) -> None:
        """Set the weights that the closed form gives from the sums, and both errors.

        Raises:
            TrainingError: the output of the conv is not finite.
        """


class LearnedFit:
    """A candidate without a closed form: Adam learns all its parameters, if it has any.

    Args:
        operation: the candidate.
        centred: whether the next layer subtracts the mean of each channel.
    """

    def __init__(self, operation: nn.Module, *, centred: bool) -> None:
        self.operation, self.centred = operation, centred
        self.sums: RowSums[object] | None = None
        self.error = self.fit_error = float("nan")

    def parameters(self) -> list[nn.Parameter]:
        """Return all parameters that take a gradient."""
        return [p for p in self.operation.parameters() if p.requires_grad]

    def solve(self, devices: Devices) -> None:
        """Do nothing."""


class LeastSquaresFit:
    """A candidate that ends in a dense conv, which least squares sets.

    Adam learns the layers before that conv, and the conv together with them.

    Args:
        operation: the candidate.
        last: its last conv, or the candidate itself.
        sums: over what that conv reads.
        centred: whether the next layer subtracts the mean of each channel.
    """

    def __init__(self, operation: nn.Module, last: Conv, sums: PatchSums, *, centred: bool) -> None:
        self.operation, self.last = operation, last
        self.centred = centred or last.bias is not None
        self.sums: RowSums[object] | None = sums
        self._sums = sums
        self.error = self.fit_error = float("nan")

    def parameters(self) -> list[nn.Parameter]:
        """Return all parameters, or none where the last conv holds them all."""
        parameters = list(self.operation.parameters())
        if len(parameters) == len(list(self.last.parameters())):
            return []
        return [p for p in parameters if p.requires_grad]

    def solve(self, devices: Devices) -> None:
        """Set the last conv to the least-squares solution."""
        fit, held_out = self._sums.moments(devices)
        self.error, self.fit_error = set_by_least_squares(
            self.last, fit, held_out, centred=self.centred
        )


def set_by_least_squares(
    conv: Conv, fit: Moments, held_out: Moments, *, centred: bool
) -> tuple[float, float]:
    """Set a dense conv to the best weights, and return its errors on rows held out and fitted.

    Args:
        conv: is changed in place.
        fit: moments of what the conv reads, and of the targets.
        held_out: the same of other rows.
        centred: whether the means are free.
    """
    found = solve(fit, held_out, centred=centred)
    with torch.no_grad():
        conv.weight.copy_(found.weight_FC.T.reshape(conv.weight.shape))
        if conv.bias is not None:
            both = fit.with_rows(held_out)
            conv.bias.copy_(both.mean_C - both.mean_F @ found.weight_FC)
    return found.error, found.fit_error


class LowRankFit:
    """A conv to R channels and a pointwise conv, set by the principal components of the output.

    The components are those of the output with each channel scaled to unit variance.

    Source: Zhang et al., Accelerating Very Deep Convolutional Networks, 2016, section 3.1.

    Args:
        conv: the conv that is replaced; it has to use its ``weight`` as it is.
        operation: the candidate, which ends in these two convs.
        sums: with the outputs of the conv as features.
        centred: whether the next layer subtracts the mean of each channel.
    """

    def __init__(
        self, conv: Conv, operation: nn.Sequential, sums: PatchSums, *, centred: bool
    ) -> None:
        reduce, expand = operation[-2], operation[-1]
        assert isinstance(reduce, Conv)
        assert isinstance(expand, Conv)
        self.conv, self.reduce, self.expand = conv, reduce, expand
        self.operation: nn.Module = operation
        self.centred = centred or expand.bias is not None
        self.sums: RowSums[object] | None = sums
        self._sums = sums
        self.error = self.fit_error = float("nan")

    def parameters(self) -> list[nn.Parameter]:
        """Return no parameter: the closed form settles both convs."""
        return []

    def solve(self, devices: Devices) -> None:
        """Set both convs from the principal components."""
        fit, held_out = self._sums.moments(devices)
        both = fit.with_rows(held_out)
        variance_C = both.centred().square_C
        up_CR, kept_CR = self._components(fit)
        rest_CC = torch.eye(len(up_CR)).to(up_CR) - up_CR @ kept_CR.T
        self.fit_error, self.error = (
            mean_error((rest_CC @ self._gram(m) * rest_CC).sum(1), variance_C)
            for m in (fit, held_out)
        )
        self._set(*self._components(both), both.mean_C)

    def _gram(self, moments: Moments) -> torch.Tensor:
        return (moments.centred() if self.centred else moments).gram_FF

    def _components(self, moments: Moments) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weights from the components to the output, and from the output to them."""
        variance_C = moments.centred().square_C
        scale_C = (variance_C.clamp(min=_LEAST_VARIANCE * variance_C.mean()) + _TINY).sqrt()
        _, vectors_CC = torch.linalg.eigh(self._gram(moments) / scale_C[:, None] / scale_C)
        vectors_CR = vectors_CC[:, -self.reduce.out_channels :]
        return vectors_CR * scale_C[:, None], vectors_CR / scale_C[:, None]

    def _set(self, up_CR: torch.Tensor, kept_CR: torch.Tensor, mean_C: torch.Tensor) -> None:
        """Set both convs."""
        down_RF = kept_CR.T @ self.conv.weight.detach().flatten(1).to(kept_CR)
        # Both weight rows of a component get the same length, so that both convs train at one pace.
        balance_R = (up_CR.norm(dim=0) / down_RF.norm(dim=1).clamp(min=_TINY)).sqrt()
        with torch.no_grad():
            self.reduce.weight.copy_(
                (down_RF * balance_R[:, None]).reshape(self.reduce.weight.shape)
            )
            self.expand.weight.copy_((up_CR / balance_R).reshape(self.expand.weight.shape))
            if self.expand.bias is not None:
                bias_C = 0 if self.conv.bias is None else self.conv.bias.to(mean_C)
                self.expand.bias.copy_(mean_C - up_CR @ (kept_CR.T @ (mean_C - bias_C)))


def relative_error(output: torch.Tensor, y: torch.Tensor, *, centred: bool) -> torch.Tensor:
    """Return the squared error over the variance of the target, mean over the channels, a scalar.

    Args:
        output: of a candidate, N x C x spatial.
        y: the target, output of the conv, of the same shape.
        centred: ignore a difference between the means of a channel.
    """
    dims = [d for d in range(y.dim()) if d != 1]
    difference = (output - y).float()
    if centred:
        difference = difference - difference.mean(dims, keepdim=True)
    variance = y.float().var(dims, correction=0, keepdim=True)
    # A channel that hardly varies, or a single value, has no weight of its own.
    least = _LEAST_VARIANCE * variance.mean() + _TINY
    return (difference.square() / variance.clamp(min=least)).mean()
