"""How a grouped or depthwise conv is fitted: by least squares within each of its groups.

Each output reads the channels of one group alone. So its weights follow from the second moments
within that group, which are few.

Suffixes: P rows, F features (channels x positions of the kernel), C channels of the output, G
groups, f features of a group, c channels of a group.
"""

from dataclasses import dataclass

import torch
from torch import nn

from refiner.distill.candidate_fit import Conv
from refiner.distill.least_squares import mean_error
from refiner.distill.moments import check_finite
from refiner.distill.patches import RowSums
from refiner.training.devices import Devices

_RIDGE = 1e-5
"""In units of the mean second moment of a group's features."""
_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMoments:
    """Means over rows of products within each group, all float64."""

    count: float
    gram_Gff: torch.Tensor
    cross_Gfc: torch.Tensor
    square_Gc: torch.Tensor
    mean_Gf: torch.Tensor
    mean_Gc: torch.Tensor

    def centred(self) -> "GroupMoments":
        """Return the moments about the means, which stay what they are."""
        mean_Gf, mean_Gc = self.mean_Gf, self.mean_Gc
        return GroupMoments(
            count=self.count,
            gram_Gff=self.gram_Gff - mean_Gf[:, :, None] * mean_Gf[:, None, :],
            cross_Gfc=self.cross_Gfc - mean_Gf[:, :, None] * mean_Gc[:, None, :],
            square_Gc=self.square_Gc - mean_Gc.square(),
            mean_Gf=mean_Gf,
            mean_Gc=mean_Gc,
        )

    def with_rows(self, other: "GroupMoments") -> "GroupMoments":
        """Return the moments, not centred, over the rows of both."""
        share = other.count / (self.count + other.count)
        names = ("gram_Gff", "cross_Gfc", "square_Gc", "mean_Gf", "mean_Gc")
        mixed = {n: torch.lerp(getattr(self, n), getattr(other, n), share) for n in names}
        return GroupMoments(count=self.count + other.count, **mixed)

    def weights(self) -> torch.Tensor:
        """Return the weights with the least squared error, G x f x c."""
        gram_Gff = self.gram_Gff.clone()
        diagonal_Gf = gram_Gff.diagonal(dim1=1, dim2=2)
        diagonal_Gf += (_RIDGE * diagonal_Gf.mean(1, keepdim=True)).clamp(min=_TINY)
        return torch.cholesky_solve(self.cross_Gfc, torch.linalg.cholesky(gram_Gff))

    def error(self, weight_Gfc: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of each output, C values."""
        rest_Gfc = self.gram_Gff @ weight_Gfc - 2 * self.cross_Gfc
        return (self.square_Gc + (weight_Gfc * rest_Gfc).sum(1)).clamp(min=0).flatten()


class _GroupSums:
    """Sums over rows of the products within each group."""

    def __init__(self, name: str, groups: int) -> None:
        self.name, self.groups = name, groups
        self.rows = 0
        self._sums: list[torch.Tensor] = []

    def add(self, feature_PF: torch.Tensor, target_PC: torch.Tensor) -> None:
        """Add rows."""
        feature_GPf, target_GPc = (
            rows.double().unflatten(1, (self.groups, -1)).movedim(1, 0)
            for rows in (feature_PF, target_PC)
        )
        new = [
            feature_GPf.mT @ feature_GPf,
            feature_GPf.mT @ target_GPc,
            target_GPc.square().sum(1),
            feature_GPf.sum(1),
            target_GPc.sum(1),
        ]
        self._sums = [a + b for a, b in zip(self._sums, new, strict=True)] if self._sums else new
        self.rows += len(feature_PF)

    def take(self, devices: Devices) -> GroupMoments:
        """Return the moments over all processes, and let the sums go.

        Raises:
            TrainingError: they are not finite.
        """
        sums, rows = self._sums, self.rows
        self._sums, self.rows = [], 0
        count = float(devices.summed(sums[0].new_tensor(float(rows))))
        gram, cross, square, mean_f, mean_c = (devices.summed(each) / count for each in sums)
        check_finite(self.name, gram, cross, square)
        return GroupMoments(
            count=count,
            gram_Gff=gram,
            cross_Gfc=cross,
            square_Gc=square,
            mean_Gf=mean_f,
            mean_Gc=mean_c,
        )


class GroupedSums(RowSums[GroupMoments]):
    """Sums over the pairs of features within each group of the conv that reads."""

    def _new_sums(self) -> _GroupSums:
        return _GroupSums(self.name, self.spec.groups)

    @property
    def bytes(self) -> int:
        """Size of the sums."""
        each = self.features // self.spec.groups
        return 16 * self.features * (each + self.spec.out_channels // self.spec.groups)


class GroupedFit:
    """A candidate that is a grouped conv, after layers without parameters.

    Args:
        operation: the candidate.
        last: its conv, or the candidate itself.
        sums: over what that conv reads.
        centred: whether the next layer subtracts the mean of each channel.
    """

    def __init__(
        self, operation: nn.Module, last: Conv, sums: GroupedSums, *, centred: bool
    ) -> None:
        self.operation, self.last = operation, last
        self.centred = centred or last.bias is not None
        self.sums: RowSums[object] | None = sums
        self._sums = sums
        self.error = self.fit_error = float("nan")

    def parameters(self) -> list[nn.Parameter]:
        """Return no parameter: the closed form settles the conv."""
        return []

    def solve(self, devices: Devices) -> None:
        """Set the conv."""
        fit, held_out = self._sums.moments(devices)
        both = fit.with_rows(held_out)
        variance_C = both.centred().square_Gc.flatten()
        parts = (fit, held_out, both)
        if self.centred:
            parts = (fit.centred(), held_out.centred(), both.centred())
        weight_Gfc = parts[0].weights()
        self.fit_error, self.error = (
            mean_error(part.error(weight_Gfc), variance_C) for part in parts[:2]
        )
        weight_Gfc = parts[2].weights()
        with torch.no_grad():
            self.last.weight.copy_(weight_Gfc.mT.reshape(self.last.weight.shape))
            if self.last.bias is not None:
                given_Gc = (both.mean_Gf[:, None] @ weight_Gfc).squeeze(1)
                self.last.bias.copy_((both.mean_Gc - given_Gc).flatten())
