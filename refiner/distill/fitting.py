"""Fitting: the candidates of one conv's place are drawn to what the conv gives for what it is given.

The loss of a candidate is its squared error over the variance of the conv's output, channel by
channel, so 1 is as good as the mean and 0 is the conv itself. Where a candidate ends in a pointwise conv,
as all of the paper's do, the best one for what stands before it is solved for by least squares; where it
is of low rank, both of its convs are, by the principal components of the output.

Suffixes: F features, C channels of the output, R components.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from refiner.core.errors import TrainingError
from refiner.core.layers import CONV_TYPES
from refiner.space.operations import LowRank
from refiner.training.devices import Devices

_RIDGE = 1e-5
"""Of the least squares, in units of the features' mean variance: they may be dependent."""
_LEAST_VARIANCE = 1e-3
"""Of a channel in the loss, in units of the mean over the channels."""
_TINY = 1e-8
_NO_PADDING: tuple[Any, ...] = ((0,), (0, 0), (0, 0, 0), "valid", "same")
_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d


class Place:
    """One conv of a slot and what may stand in for it.

    Args:
        name: of the conv.
        conv: the conv.
        operations: by the names of their candidates; they are changed in place.
        centred: whether what follows takes the mean of each channel away.
    """

    def __init__(
        self, name: str, conv: nn.Module, operations: Mapping[str, nn.Module], centred: bool
    ) -> None:
        self.name, self.conv = name, conv
        self.candidates, self.operations = list(operations), list(operations.values())
        self.pointwise = [_last_pointwise(operation) for operation in self.operations]
        self.centred = [centred or (p is not None and p.bias is not None) for p in self.pointwise]
        plain = _uses_its_weight(conv)
        self.factors = [plain and isinstance(operation, LowRank) for operation in self.operations]
        """Whether an operation's best weights are those of the conv, in few components."""
        self.learns = [
            not factors and len(list(operation.parameters())) > len(_parameters(pointwise))
            for factors, operation, pointwise in zip(
                self.factors, self.operations, self.pointwise, strict=True
            )
        ]
        """Whether the closed forms leave something to learn."""
        self._sums: list[Any] = [None] * len(self.operations)
        self._errors = torch.zeros(len(self.operations), dtype=torch.float64)
        self._count = 0

    def learned(self) -> list[nn.Parameter]:
        """Return the parameters that no closed form settles."""
        learning = itertools.compress(self.operations, self.learns)
        return [p for operation in learning for p in operation.parameters() if p.requires_grad]

    def descend(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add the gradients of the errors of what no closed form settles."""
        for i, operation in enumerate(self.operations):
            if self.learns[i]:
                with torch.enable_grad():
                    self._error(i, operation(x), y).backward()

    def accumulate(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add to the sums that the closed forms follow from."""
        target_C = _rows(y)
        for i, (operation, pointwise) in enumerate(
            zip(self.operations, self.pointwise, strict=True)
        ):
            if pointwise is None:
                continue
            if self.factors[i]:
                feature_F = target_C
            else:
                feature_F = _rows(operation[:-1](x) if isinstance(operation, nn.Sequential) else x)
            one = feature_F.new_ones(len(feature_F), 1)
            feature_F = torch.cat([feature_F, one], dim=1)
            sums = feature_F.T @ feature_F, feature_F.T @ target_C
            before = self._sums[i]
            self._sums[i] = sums if before is None else (before[0] + sums[0], before[1] + sums[1])

    def solve(self, devices: Devices) -> None:
        """Set the pointwise convs to the best ones by the sums, and begin new sums.

        Raises:
            TrainingError: what the conv gives is not finite.
        """
        for i, pointwise in enumerate(self.pointwise):
            if pointwise is None:
                continue
            gram, cross = map(devices.summed, self._sums[i])
            self._sums[i] = None
            count = gram[-1, -1]
            mean_F, mean_C = gram[-1, :-1] / count, cross[-1] / count
            gram, cross = gram[:-1, :-1] / count, cross[:-1] / count
            if not bool(cross.isfinite().all()):
                raise TrainingError(
                    f"what {self.name} gives is not finite, so no candidate can learn it. Mend the weights."
                )
            if self.centred[i]:
                gram = gram - mean_F[:, None] * mean_F
                cross = cross - mean_F[:, None] * mean_C
            if self.factors[i]:
                self._factor(i, pointwise, gram, mean_C)
                continue
            ridge = _RIDGE * gram.diagonal().mean().clamp(min=1e-12)
            gram.diagonal().add_(ridge)
            weight_FC = torch.linalg.solve(gram, cross)
            with torch.no_grad():
                pointwise.weight.copy_(weight_FC.T.reshape(pointwise.weight.shape))
                if pointwise.bias is not None:
                    pointwise.bias.copy_(mean_C - mean_F @ weight_FC)

    def _factor(self, i: int, pointwise: _Conv, moment: torch.Tensor, mean_C: torch.Tensor) -> None:
        """Set the two convs by the principal components of the conv's output, channels of unit variance.

        Args:
            i: number of the operation.
            pointwise: its last conv; the one before it gives R channels.
            moment: C x C, of the output, about its mean where ``centred``.
            mean_C: of the output.

        Source: Zhang et al., Accelerating Very Deep Convolutional Networks, 2016, section 3.1.
        """
        conv, operation = self.conv, self.operations[i]
        assert isinstance(conv, _Conv)
        assert isinstance(operation, nn.Sequential)
        few = operation[-2]
        assert isinstance(few, _Conv)
        variance_C = moment.diagonal()
        if not self.centred[i]:
            variance_C = variance_C - mean_C.square()
        scale_C = (variance_C.clamp(min=_LEAST_VARIANCE * variance_C.mean()) + _TINY).sqrt()
        _, vectors_CC = torch.linalg.eigh(moment / scale_C[:, None] / scale_C)
        vectors_CR = vectors_CC[:, -few.out_channels :]
        down_RF = (vectors_CR / scale_C[:, None]).T @ conv.weight.detach().flatten(1).to(moment)
        up_CR = vectors_CR * scale_C[:, None]
        # Each component's two rows of weights are of one length, so that both learn alike.
        balance_R = (up_CR.norm(dim=0) / down_RF.norm(dim=1).clamp(min=_TINY)).sqrt()
        with torch.no_grad():
            few.weight.copy_((down_RF * balance_R[:, None]).reshape(few.weight.shape))
            pointwise.weight.copy_((up_CR / balance_R).reshape(pointwise.weight.shape))
            if pointwise.bias is not None:
                kept = vectors_CR / scale_C[:, None]
                bias_C = 0 if conv.bias is None else conv.bias.to(mean_C)
                pointwise.bias.copy_(mean_C - up_CR @ (kept.T @ (mean_C - bias_C)))

    def measure(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add to the errors that are told in the end."""
        for i, operation in enumerate(self.operations):
            self._errors[i] += float(self._error(i, operation(x), y))
        self._count += 1

    def errors(self, devices: Devices) -> dict[str, float]:
        """Return the mean error of each candidate over the batches that were measured."""
        values = devices.mean(self._errors / max(1, self._count)).tolist()
        return dict(zip(self.candidates, values, strict=True))

    def _error(self, i: int, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        dims = [d for d in range(y.dim()) if d != 1]
        difference = (output - y).float()
        if self.centred[i]:
            difference = difference - difference.mean(dims, keepdim=True)
        variance = y.float().var(dims, correction=0, keepdim=True)
        # A channel that hardly varies, or a single value, has no weight of its own.
        least = _LEAST_VARIANCE * variance.mean() + _TINY
        return (difference.square() / variance.clamp(min=least)).mean()


def _uses_its_weight(conv: nn.Module) -> bool:
    """Return whether a conv goes by its ``weight``: a subclass may compute another one when it is called."""
    return any(
        isinstance(conv, kind)
        and type(conv).forward is kind.forward
        and type(conv)._conv_forward is kind._conv_forward
        for kind in CONV_TYPES
    )


def _parameters(module: nn.Module | None) -> list[nn.Parameter]:
    return [] if module is None else list(module.parameters())


def _last_pointwise(operation: nn.Module) -> _Conv | None:
    """Return the conv1x1 over all channels that an operation ends in, if it does."""
    last = operation[-1] if isinstance(operation, nn.Sequential) and len(operation) else operation
    if not isinstance(last, _Conv) or last.groups != 1 or last.padding not in _NO_PADDING:
        return None
    return last if set(last.kernel_size) == set(last.stride) == {1} else None


def _rows(x: torch.Tensor) -> torch.Tensor:
    """Return N x C x spatial as rows of C numbers, float64 where the device has that."""
    rows = x.transpose(0, 1).flatten(1).T
    return rows.float() if x.device.type == "mps" else rows.double()
