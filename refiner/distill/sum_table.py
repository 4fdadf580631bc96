"""The sums of all fits. Fits of one conv that read the same patches share theirs."""

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from refiner.core.randomness import derive_seed
from refiner.distill.patches import PatchSums
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
        self._sums: list[PatchSums] = []
        self._shared: dict[tuple[str, ConvSpec], PatchSums] = {}

    def __len__(self) -> int:
        return len(self._sums)

    def sums(
        self, name: str, spec: ConvSpec, unknowns: int, *, before: nn.Module | None = None
    ) -> PatchSums:
        """Return sums over what a conv reads, with rows enough for a number of unknowns.

        Args:
            name: of the conv whose outputs are the targets.
            spec: of the conv that reads.
            unknowns: how many weights each output has.
            before: layers before that conv. Sums with such layers are not shared.
        """
        key = name, replace(spec, groups=1, bias=False)
        found = None if before is not None else self._shared.get(key)
        if found is None:
            seed = derive_seed(self.seed, "rows", len(self._sums))
            found = PatchSums(*key, before, seed=seed)
            self._sums.append(found)
            if before is None:
                self._shared[key] = found
        found.want(self.rows_per_feature * unknowns, self.batches)
        return found

    def parts(self) -> Iterator[list[PatchSums]]:
        """Yield all sums, as many at a time as fit into ``MOST_BYTES``."""
        part: list[PatchSums] = []
        for sums in self._sums:
            if part and sum(each.bytes for each in part) + sums.bytes > MOST_BYTES:
                yield part
                part = []
            part.append(sums)
        if part:
            yield part
