"""A budget that is kept as measured: what is predicted of an architecture may be a little off.

What a strategy recommends is measured. Architectures over the budget are left out, the predictions
are corrected by what was measured, and the strategy recommends others by the corrected ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from refiner.cost.feasible import FeasibleSet
from refiner.search.strategy import Limited
from refiner.space.architecture import Vector

_TRIES = 4
"""How often a strategy recommends until enough architectures keep to the budget."""


class MeasuredLimit(Protocol):
    """A budget that architectures are measured by."""

    @property
    def feasible(self) -> FeasibleSet:
        """What should keep to it, by all that was measured so far."""

    @property
    def used(self) -> Mapping[Vector, float]:
        """The share of the budget that each measured architecture uses."""

    def within(self, vectors: Sequence[Vector]) -> list[Vector]:
        """Measure architectures, each once; return those that keep to the budget, in order."""


def recommended_within(
    limit: MeasuredLimit,
    strategy: object,
    recommend: Callable[[int], list[Vector]],
    count: int,
) -> list[Vector]:
    """Return recommendations that keep to a budget as measured; after a few tries maybe none.

    Args:
        limit: the budget.
        strategy: whose they are; it learns what was measured if it is
            :class:`~refiner.search.strategy.Limited`.
        recommend: returns at most so many recommendations.
        count: how many are wanted at most.
    """
    kept: list[Vector] = []
    for _ in range(_TRIES):
        if isinstance(strategy, Limited):
            strategy.keep_to(limit.feasible)
        over = {vector for vector, used in limit.used.items() if used > 1}
        proposed = dict.fromkeys(recommend(count + len(over)))
        new = [vector for vector in proposed if vector not in over and vector not in kept]
        new = new[: count - len(kept)]
        kept += limit.within(new)
        if len(kept) == count or not new:
            break
    return kept


def nearest(limit: MeasuredLimit, count: int) -> list[Vector]:
    """Return the measured architectures that use the least of a budget."""
    return sorted(limit.used, key=lambda vector: (limit.used[vector], vector))[:count]
