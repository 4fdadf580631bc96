"""Architectures of other costs than the budget's, for the Pareto front of a search."""

from collections.abc import Callable

from refiner.cost.feasible import FeasibleSet
from refiner.search.pareto import spread
from refiner.search.scores import Scores
from refiner.search.strategy import Ladder, Strategy
from refiner.space.architecture import Vector


def of_other_costs(
    strategy: Strategy,
    scores: Scores,
    feasible: FeasibleSet | None,
    cost: Callable[[Vector], float] | None,
    count: int,
) -> list[Vector]:
    """Return at most ``count`` architectures of other costs, within the budget.

    Args:
        strategy: may propose some itself.
        scores: of the search; else those are taken that none of these beats.
        feasible: the budget; None where everything is feasible.
        cost: of an architecture; None where it is not known.
        count: how many.
    """
    if cost is None:
        return []
    if isinstance(strategy, Ladder):
        return strategy.ladder(count)
    means = {
        vector: mean
        for vector, mean in scores.means().items()
        if feasible is None or feasible.holds(vector)
    }
    return spread(means, cost, count)
