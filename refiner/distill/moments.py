"""Second moments of features and targets, summed over rows in pieces of bounded size.

All closed forms need sums over rows alone. Products are taken in float32, of rows less a shift that
is near their mean, and added up in float64. So a large mean costs no digits.

Suffixes: P rows, F features, C targets.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch

from refiner.core.errors import TrainingError
from refiner.training.devices import Devices

_BLOCK = 256
"""Columns of one product. Only blocks on and above the diagonal of a symmetric sum are computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Means over rows of features, of targets and of their products, all float64."""

    count: float
    """Number of rows."""
    gram_FF: torch.Tensor
    """Of the products of two features."""
    cross_FC: torch.Tensor
    """Of the products of a feature and a target."""
    square_C: torch.Tensor
    """Of the squared targets."""
    mean_F: torch.Tensor
    """Of the features."""
    mean_C: torch.Tensor
    """Of the targets."""

    def centred(self) -> "Moments":
        """Return the moments about the means, which stay what they are."""
        return replace(
            self,
            gram_FF=torch.addr(self.gram_FF, self.mean_F, self.mean_F, alpha=-1),
            cross_FC=torch.addr(self.cross_FC, self.mean_F, self.mean_C, alpha=-1),
            square_C=self.square_C - self.mean_C.square(),
        )

    def with_rows(self, other: "Moments") -> "Moments":
        """Return the moments, not centred, over the rows of both."""
        if other is self:
            return self
        share = other.count / (self.count + other.count)
        names = ("gram_FF", "cross_FC", "square_C", "mean_F", "mean_C")
        mixed = {n: torch.lerp(getattr(self, n), getattr(other, n), share) for n in names}
        return Moments(count=self.count + other.count, **mixed)

    def of_features(self, order_F: torch.Tensor) -> "Moments":
        """Return the moments of some features, in the order of their numbers."""
        return replace(
            self,
            gram_FF=self.gram_FF[order_F][:, order_F],
            cross_FC=self.cross_FC[order_F],
            mean_F=self.mean_F[order_F],
        )

    def error(self, weight_FC: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of each target that weights give from the features.

        Args:
            weight_FC: weights of all features, or of the first ones; the others count as zero.
        """
        n = len(weight_FC)
        rest_FC = self.gram_FF[:n, :n] @ weight_FC - 2 * self.cross_FC[:n]
        return (self.square_C + (weight_FC * rest_FC).sum(0)).clamp(min=0)


class MomentSums:
    """Sums over rows, from which their moments follow.

    Args:
        name: of the conv, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = 0
        self._shifts: tuple[torch.Tensor, torch.Tensor] | None = None
        self._sums: list[torch.Tensor] = []

    def add(self, feature_PF: torch.Tensor, target_PC: torch.Tensor) -> None:
        """Add rows, float32 and finite or not; both tensors are changed in place."""
        if self._shifts is None:
            self._begin(feature_PF, target_PC)
        assert self._shifts is not None
        gram, cross, square, first_F, first_C = self._sums
        with without_autocast(feature_PF.device.type):
            feature_PF -= self._shifts[0]
            target_PC -= self._shifts[1]
            for start in range(0, len(gram), _BLOCK):
                columns = feature_PF[:, start : start + _BLOCK]
                gram[start : start + _BLOCK, start:] += columns.T @ feature_PF[:, start:]
            cross += feature_PF.T @ target_PC
            first_F += feature_PF.sum(0)
            first_C += target_PC.sum(0)
            square += target_PC.square_().sum(0)
        self.rows += len(feature_PF)

    def _begin(self, feature_PF: torch.Tensor, target_PC: torch.Tensor) -> None:
        """Make empty sums, and take the means of the first rows for the shifts."""
        features, targets = feature_PF.shape[1], target_PC.shape[1]
        self._shifts = feature_PF.mean(0), target_PC.mean(0)
        self._sums = [
            torch.zeros(shape, dtype=torch.float64, device=feature_PF.device)
            for shape in ((features,) * 2, (features, targets), targets, features, targets)
        ]

    def take(self, devices: Devices) -> Moments:
        """Return the moments over all processes, and let the sums go.

        Raises:
            TrainingError: they are not finite.
        """
        assert self._shifts is not None
        (shift_F, shift_C), rows = (s.double() for s in self._shifts), self.rows
        gram, cross, square, first_F, first_C = self._sums
        self._sums, self._shifts, self.rows = [], None, 0
        gram = gram.triu_() + gram.triu(1).T
        # Each process has shifts of its own, so sums are of plain rows before they are added up.
        gram.addr_(first_F, shift_F).addr_(shift_F, first_F).addr_(shift_F, shift_F, alpha=rows)
        cross.addr_(first_F, shift_C).addr_(shift_F, first_C).addr_(shift_F, shift_C, alpha=rows)
        square += 2 * shift_C * first_C + rows * shift_C.square()
        sums = [gram, cross, square, first_F + rows * shift_F, first_C + rows * shift_C]
        count = float(devices.summed(gram.new_tensor(float(rows))))
        if devices.processes > 1:
            sums = [devices.summed(each) for each in sums]
        gram, cross, square, mean_F, mean_C = (each.div_(count) for each in sums)
        check_finite(self.name, gram, cross, square)
        return Moments(
            count=count,
            gram_FF=gram,
            cross_FC=cross,
            square_C=square,
            mean_F=mean_F,
            mean_C=mean_C,
        )


def check_finite(name: str, *sums: torch.Tensor) -> None:
    """Raise a TrainingError if sums over a conv's input and output are not finite."""
    if not all(bool(each.isfinite().all()) for each in sums):
        raise TrainingError(
            f"the input or the output of {name} is not finite, so no candidate can be "
            "fitted to it. Check the weights of the model and the data."
        )


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Return a context that computes in the precision of its tensors."""
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)
