"""How one candidate is fitted to the conv that it may replace: one class per kind of candidate.

A candidate that ends in a pointwise conv, as all of the paper's do, gets the pointwise conv that is
best for the layers before it, by least squares. A candidate of low rank gets both of its convs from
the principal components of the output. Adam learns what no closed form settles.

The error of a candidate is its squared error over the variance of the conv's output, per channel.
It is 0 for the conv itself, and 1 for a candidate that is as good as the mean.

Suffixes: P positions (samples x spatial), F features, C channels of the output, R components.
"""

from typing import Protocol

import torch
from torch import nn

from refiner.core.errors import TrainingError
from refiner.training.devices import Devices

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d

_RIDGE = 1e-5
"""Ridge of the least squares, in units of the mean variance: features may be dependent."""
_LEAST_VARIANCE = 1e-3
"""Least variance of a channel in the error, in units of the mean over the channels."""
_TINY = 1e-8


class CandidateFit(Protocol):
    """Fits one candidate to one conv; the operation is changed in place."""

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters that Adam learns; empty where a closed form settles them all."""

    def accumulate(self, x: torch.Tensor, target_PC: torch.Tensor) -> None:
        """Add one batch to the sums that the closed form needs.

        Args:
            x: input of the conv, N x C x spatial.
            target_PC: output of the conv, as :func:`rows` returns it.
        """

    def solve(self, devices: Devices) -> None:
        """Set the weights that the closed form gives, and start new sums.

        Raises:
            TrainingError: the output of the conv is not finite.
        """

    def error(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the error, a scalar, for an input and an output of the conv, N x C x spatial."""


class LearnedFit:
    """A candidate without a closed form: Adam learns all its parameters, if it has any.

    Args:
        operation: the candidate.
        centred: whether the next layer subtracts the mean of each channel.
    """

    def __init__(self, operation: nn.Module, *, centred: bool) -> None:
        self.operation, self.centred = operation, centred

    def parameters(self) -> list[nn.Parameter]:
        """Return all parameters that take a gradient."""
        return [p for p in self.operation.parameters() if p.requires_grad]

    def accumulate(self, x: torch.Tensor, target_PC: torch.Tensor) -> None:
        """Do nothing."""

    def solve(self, devices: Devices) -> None:
        """Do nothing."""

    def error(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the error of the candidate."""
        return relative_error(self.operation(x), y, centred=self.centred)


class LeastSquaresFit:
    """A candidate that ends in a pointwise conv, which least squares sets.

    Adam learns the layers before the pointwise conv, and the pointwise conv together with them.

    Args:
        name: of the conv that is replaced, for messages.
        operation: the candidate.
        pointwise: its last conv, or the candidate itself.
        centred: whether the next layer subtracts the mean of each channel.
    """

    def __init__(self, name: str, operation: nn.Module, pointwise: Conv, *, centred: bool) -> None:
        self.operation, self.pointwise = operation, pointwise
        self.centred = centred or pointwise.bias is not None
        self._moments = _Moments(name)

    def parameters(self) -> list[nn.Parameter]:
        """Return all parameters, or none where the pointwise conv holds them all."""
        parameters = list(self.operation.parameters())
        if len(parameters) == len(list(self.pointwise.parameters())):
            return []
        return [p for p in parameters if p.requires_grad]

    def accumulate(self, x: torch.Tensor, target_PC: torch.Tensor) -> None:
        """Add the features that the pointwise conv reads, and the targets."""
        before = self.operation
        features = before[:-1](x) if isinstance(before, nn.Sequential) else x
        self._moments.add(rows(features), target_PC)

    def solve(self, devices: Devices) -> None:
        """Set the pointwise conv to the least-squares solution, and start new sums."""
        gram_FF, cross_FC, mean_F, mean_C = self._moments.take(devices, centred=self.centred)
        ridge = _RIDGE * gram_FF.diagonal().mean().clamp(min=1e-12)
        gram_FF.diagonal().add_(ridge)
        weight_FC = torch.linalg.solve(gram_FF, cross_FC)
        with torch.no_grad():
            self.pointwise.weight.copy_(weight_FC.T.reshape(self.pointwise.weight.shape))
            if self.pointwise.bias is not None:
                self.pointwise.bias.copy_(mean_C - mean_F @ weight_FC)

    def error(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the error of the candidate."""
        return relative_error(self.operation(x), y, centred=self.centred)


class LowRankFit:
    """A conv to R channels and a pointwise conv, set by the principal components of the output.

    The components are those of the output with each channel scaled to unit variance.

    Source: Zhang et al., Accelerating Very Deep Convolutional Networks, 2016, section 3.1.

    Args:
        name: of the conv that is replaced, for messages.
        conv: the conv; it has to use its ``weight`` as it is.
        operation: the candidate, which ends in these two convs.
        centred: whether the next layer subtracts the mean of each channel.
    """

    def __init__(self, name: str, conv: Conv, operation: nn.Sequential, *, centred: bool) -> None:
        reduce, expand = operation[-2], operation[-1]
        assert isinstance(reduce, Conv)
        assert isinstance(expand, Conv)
        self.conv, self.operation, self.reduce, self.expand = conv, operation, reduce, expand
        self.centred = centred or expand.bias is not None
        self._moments = _Moments(name)

    def parameters(self) -> list[nn.Parameter]:
        """Return no parameter: the closed form settles both convs."""
        return []

    def accumulate(self, x: torch.Tensor, target_PC: torch.Tensor) -> None:  # noqa: ARG002
        """Add the second moments of the targets."""
        self._moments.add(target_PC, target_PC)

    def solve(self, devices: Devices) -> None:
        """Set both convs from the principal components, and start new sums."""
        moment_CC, _, _, mean_C = self._moments.take(devices, centred=self.centred)
        variance_C = moment_CC.diagonal()
        if not self.centred:
            variance_C = variance_C - mean_C.square()
        scale_C = (variance_C.clamp(min=_LEAST_VARIANCE * variance_C.mean()) + _TINY).sqrt()
        _, vectors_CC = torch.linalg.eigh(moment_CC / scale_C[:, None] / scale_C)
        vectors_CR = vectors_CC[:, -self.reduce.out_channels :]
        kept_CR = vectors_CR / scale_C[:, None]
        down_RF = kept_CR.T @ self.conv.weight.detach().flatten(1).to(moment_CC)
        up_CR = vectors_CR * scale_C[:, None]
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

    def error(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the error of the candidate."""
        return relative_error(self.operation(x), y, centred=self.centred)


class _Moments:
    """Sums over positions of features and targets, from which their moments follow."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._sums: tuple[torch.Tensor, torch.Tensor] | None = None

    def add(self, feature_PF: torch.Tensor, target_PC: torch.Tensor) -> None:
        """Add the positions of one batch."""
        one_P1 = feature_PF.new_ones(len(feature_PF), 1)
        feature_PF = torch.cat([feature_PF, one_P1], dim=1)
        gram, cross = feature_PF.T @ feature_PF, feature_PF.T @ target_PC
        before = self._sums
        self._sums = (gram, cross) if before is None else (before[0] + gram, before[1] + cross)

    def take(
        self, devices: Devices, *, centred: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the moments over all processes, and start new sums.

        Args:
            devices: adds up the sums of all processes.
            centred: whether the second moments are taken about the means.

        Returns:
            Second moments of the features F x F, cross moments F x C, and the means F and C.

        Raises:
            TrainingError: they are not finite.
        """
        assert self._sums is not None
        gram, cross = map(devices.summed, self._sums)
        self._sums = None
        count = gram[-1, -1]
        mean_F, mean_C = gram[-1, :-1] / count, cross[-1] / count
        gram_FF, cross_FC = gram[:-1, :-1] / count, cross[:-1] / count
        if not bool(cross_FC.isfinite().all()):
            raise TrainingError(
                f"the output of {self.name} is not finite, so no candidate can be fitted to it. "
                "Check the weights of the model and the data."
            )
        if centred:
            gram_FF = gram_FF - mean_F[:, None] * mean_F
            cross_FC = cross_FC - mean_F[:, None] * mean_C
        return gram_FF, cross_FC, mean_F, mean_C


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


def rows(x: torch.Tensor) -> torch.Tensor:
    """Return N x C x spatial as P rows of C numbers, float64."""
    return x.transpose(0, 1).flatten(1).T.double()
