"""How a search ended, and the form in which a checkpoint keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from refiner.search.scoring import Scored


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """How a search ended."""

    best: Scored
    top_k: tuple[Scored, ...]
    """Scored on the whole validation part, best first."""

    def state(self) -> list[tuple[list[int], float, float | None]]:
        """Return (vector, score, agreement) of each, for a checkpoint."""
        return [(list(each.vector), each.score, each.agreement) for each in self.top_k]

    @classmethod
    def of_state(cls, state: Sequence[tuple[list[int], float, float | None]]) -> Self:
        """Return what :meth:`state` was of."""
        scored = tuple(
            Scored(vector=tuple(vector), score=score, agreement=agreement)
            for vector, score, agreement in state
        )
        return cls(best=scored[0], top_k=scored)
