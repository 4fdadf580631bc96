"""A budget that is kept as measured: what is predicted of an architecture may be a little off.

What a strategy recommends is measured. Architectures over the budget are left out, the predictions
are corrected by what was measured, and the strategy recommends others by the corrected ones.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from refiner.cost.feasible import FeasibleSet
from refiner.search.strategy import Limited, Strategy
from refiner.space.architecture import Vector

_TRIES = 4
"""How often a strategy recommends until enough architectures keep to the budget."""


class MeasuredLimit(Protocol):
    """A budget that architectures are measured by."""

    feasible: FeasibleSet
    """What should keep to it, by all that was measured so far."""

    def within(self, vectors: Sequence[Vector]) -> list[Vector]:
        """Measure architectures, each once; return those that keep to the budget, in order."""


def recommended_within(
    limit: MeasuredLimit | None,
    strategy: Strategy,
    recommend: Callable[[int], list[Vector]],
    count: int,
) -> list[Vector]:
    """Return recommendations that keep to a budget as measured.

    Where none does after a few tries, the last that were measured are returned: by then,
    predictions have been corrected.

    Args:
        limit: the budget; without one all recommendations are returned.
        strategy: whose they are; it learns what was measured if it is
            :class:`~refiner.search.strategy.Limited`.
        recommend: returns at most so many recommendations.
        count: how many are wanted at most.
    """
    if limit is None:
        return list(dict.fromkeys(recommend(count)))
    measured, kept = list[Vector](), list[Vector]()
    for _ in range(_TRIES):
        missing = count - len(kept)
        proposed = dict.fromkeys(recommend(count + len(measured)))
        new = [vector for vector in proposed if vector not in measured][:missing]
        if not new:
            break
        kept += limit.within(new)
        measured += new
        if len(kept) == count:
            break
        if isinstance(strategy, Limited):
            strategy.limit(limit.feasible)
    return kept or measured[-count:]
