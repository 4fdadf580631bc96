"""The scores of a search by architecture: what several strategies and the search
remember."""

from collections.abc import Iterator, Sequence
from typing import Any

from refiner.space.architecture import Vector

State = list[tuple[list[int], list[float]]]


class Scores:
    """All scores of each architecture; one that was scored more than once counts by its
    mean."""

    def __init__(self) -> None:
        self._of: dict[Vector, list[float]] = {}

    def __contains__(self, vector: object) -> bool:
        """Return whether an architecture has a score."""
        return vector in self._of

    def __iter__(self) -> Iterator[Vector]:
        """Yield the architectures that have one, in the order of their first scores."""
        return iter(self._of)

    def __len__(self) -> int:
        """Return the number of architectures that have a score."""
        return len(self._of)

    def add(self, vectors: Sequence[Vector], scores: Sequence[float]) -> None:
        """Remember scores, higher is better, of architectures."""
        for vector, score in zip(vectors, scores, strict=True):
            self._of.setdefault(tuple(vector), []).append(float(score))

    def count(self, vector: Vector) -> int:
        """Return how often an architecture was scored."""
        return len(self._of.get(vector, ()))

    def mean(self, vector: Vector) -> float:
        """Return an architecture's mean score.

        Raises:
            KeyError: it has none.
        """
        scores = self._of[vector]
        return sum(scores) / len(scores)

    def means(self) -> dict[Vector, float]:
        """Return the mean score of each architecture."""
        return {vector: self.mean(vector) for vector in self._of}

    def best(self, count: int) -> list[Vector]:
        """Return at most ``count`` architectures of the highest mean score, the best first."""
        means = self.means()
        return sorted(means, key=lambda vector: (-means[vector], vector))[:count]

    def state_dict(self) -> State:
        """Return the scores as plain values."""
        return [(list(vector), list(scores)) for vector, scores in self._of.items()]

    def load_state_dict(self, state: Any) -> None:
        """Take over what :meth:`state_dict` returned."""
        self._of = {tuple(vector): list(scores) for vector, scores in state}
