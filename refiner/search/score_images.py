"""The validation images that architectures are scored on.

Scores are compared, so they should differ by the architecture alone, not by the images. All
architectures of one update see the same images. A strategy that compares all its scores
(``same_images``) gets more where the weights stay as they are: the first score of each architecture
is on the same images, so is each second score, and so on.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import torch

from refiner.core.errors import DataError
from refiner.core.randomness import derive_seed, seeded
from refiner.core.types import Batch, Loader
from refiner.search.scores import Scores
from refiner.space.architecture import Vector
from refiner.training.devices import Devices
from refiner.training.passes import length


class ScoreImages:
    """Gives the batches of each score.

    Args:
        loader: validation batches.
        count: batches of a score.
        in_order: whether the loader gives the same samples in each pass, in a fixed order. Then
            further scores go on where earlier ones ended; else each pass gives other samples.
        generators: those that the loader draws from.
        seed: fixes which images are taken.
    """

    def __init__(
        self,
        loader: Loader,
        count: int,
        *,
        in_order: bool,
        devices: Devices,
        generators: Sequence[torch.Generator],
        seed: int,
    ) -> None:
        self.loader, self.count, self.in_order = loader, count, in_order
        self.devices, self.generators, self.seed = devices, generators, seed
        self._sets: dict[int, list[Batch]] = {}

    def by_update(self, update: int) -> Iterator[list[Batch]]:
        """Yield the batches of each update without end, from that one on."""
        batches = self._passes(update * self.count if self.in_order else 0)
        while True:
            yield list(itertools.islice(batches, self.count))

    def by_visit(self, vectors: Sequence[Vector], scores: Scores) -> list[list[Batch]]:
        """Return the batches for each of some architectures: the n-th score of any has the n-th.

        Args:
            vectors: architectures that are to be scored now, one of them perhaps twice.
            scores: those that there are.
        """
        now: Counter[Vector] = Counter()
        visits = []
        for vector in vectors:
            visits.append(scores.count(vector) + now[vector])
            now[vector] += 1
        self._sets = {
            visit: self._sets[visit] if visit in self._sets else self._drawn(visit)
            for visit in dict.fromkeys(visits)
        }
        return [self._sets[visit] for visit in visits]

    def _drawn(self, visit: int) -> list[Batch]:
        with seeded(derive_seed(self.seed, "score images", visit), self.generators):
            batches = self._passes(visit * self.count if self.in_order else 0)
            return list(itertools.islice(batches, self.count))

    def _passes(self, position: int) -> Iterator[Batch]:
        """Yield validation batches without end, pass after pass, from a position in the pass."""
        skip = position % length(self.loader)
        while True:
            batch = None
            for batch in itertools.islice(self.devices.batches(self.loader), skip, None):
                yield batch
            if batch is None and skip == 0:
                raise DataError("the validation loader gave no batch. Give it data for each pass.")
            skip = 0
