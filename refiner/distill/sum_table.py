"""The sums of all fits. Fits of one conv that read the same patches share theirs."""

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from refiner.core.randomness import derive_seed
from refiner.distill.grouped import GroupedSums
from refiner.distill.patches import PatchSums, RowSums
from refiner.graph.conv_spec import ConvSpec

MOST_BYTES = 3 * 2**30
"""Of all sums that are held at a time; sums that are larger alone are held alone."""


class SumTable:
    """Sums by conv and by what is read there.

    Args:
        rows_per_feature: rows of the fit for each unknown of an output.
        batches: training batches over which the rows are spread.
        seed: fixes which positions are taken.
    """

    def __init__(self, *, rows_per_feature: int, batches: int, seed: int) -> None:
        self.rows_per_feature, self.batches, self.seed = rows_per_feature, batches, seed
        self._sums: list[RowSums[object]] = []
        self._shared: dict[tuple[str, ConvSpec, bool], PatchSums] = {}

    def __len__(self) -> int:
        return len(self._sums)

    def sums(
        self,
        name: str,
        spec: ConvSpec,
        unknowns: int,
        *,
        before: nn.Module | None = None,
        passed: bool = False,
    ) -> PatchSums:
        """Return sums over what a conv reads, with rows enough for a number of unknowns.

        Args:
            name: of the conv whose outputs are the targets.
            spec: of the conv that reads.
            unknowns: how many weights each output has.
            before: layers before that conv. Sums with such layers are not shared.
            passed: whether it reads the input of its group, which the convs before it pass on.
        """
        key = name, replace(spec, groups=1, bias=False), passed
        found = None if before is not None else self._shared.get(key)
        if found is None:
            found = PatchSums(*key[:2], before, seed=self._next_seed(), passed=passed)
            self._sums.append(found)
            if before is None:
                self._shared[key] = found
        found.want(self.rows_per_feature * unknowns, self.batches)
        return found

    def grouped_sums(
        self, name: str, spec: ConvSpec, unknowns: int, *, before: nn.Module | None = None
    ) -> GroupedSums:
        """Return sums within the groups of a conv, which are not shared; arguments as above."""
        found = GroupedSums(name, spec, before, seed=self._next_seed())
        self._sums.append(found)
        found.want(self.rows_per_feature * unknowns, self.batches)
        return found

    def _next_seed(self) -> int:
        return derive_seed(self.seed, "rows", len(self._sums))

    def parts(self) -> Iterator[list[RowSums[object]]]:
        """Yield all sums, as many at a time as fit into ``MOST_BYTES``."""
        part: list[RowSums[object]] = []
        for sums in self._sums:
            if part and sum(each.bytes for each in part) + sums.bytes > MOST_BYTES:
                yield part
                part = []
            part.append(sums)
        if part:
            yield part
