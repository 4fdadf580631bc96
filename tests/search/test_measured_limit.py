from collections.abc import Sequence

import numpy as np
import pytest

from refiner.cost.feasible import FeasibleSet
from refiner.search.measured_limit import nearest, recommended_within
from refiner.search.strategies import STRATEGIES, make_strategy
from refiner.space.architecture import Vector

NAMES = [("original", "keep0.75", "keep0.5", "keep0.25")] * 5
BUDGET = 24


def feasible_set(dearer: int) -> FeasibleSet:
    """Return the architectures within the budget, if each swapped slot takes so much more."""
    costs = [[[8], [6 + dearer], [4 + dearer], [2 + dearer]]] * 5
    return FeasibleSet(costs, [0], [BUDGET], least_used=0.9)


class Measured:
    """Architectures take one more in each swapped slot than was predicted."""

    def __init__(self) -> None:
        self.feasible = feasible_set(0)
        self.used: dict[Vector, float] = {}

    def within(self, vectors: Sequence[Vector]) -> list[Vector]:
        for vector in vectors:
            self.used[vector] = float(feasible_set(1).cost(vector)[0]) / BUDGET
            self.feasible = feasible_set(1)
        return [vector for vector in vectors if self.used[vector] <= 1]


class Fixed:
    """Recommends the same architectures, however often it is asked."""

    vectors: list[Vector]

    def recommend(self, count: int) -> list[Vector]:
        return self.vectors[:count]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_recommends_others_once_it_knows_what_was_measured(name: str) -> None:
    limit = Measured()
    strategy = make_strategy(name, NAMES, 0, limit.feasible)
    for _ in range(6):
        asked = strategy.ask(4)
        strategy.tell(asked, [-float(sum(vector)) for vector in asked])
    found = recommended_within(limit, strategy, strategy.recommend, 3)
    assert found
    assert all(feasible_set(1).holds(vector) for vector in found)
    strategy.keep_to(feasible_set(1))
    assert all(feasible_set(1).holds(vector) for vector in strategy.recommend(5))


def test_what_is_over_the_budget_is_measured_once_and_makes_room() -> None:
    limit, strategy = Measured(), Fixed()
    over, inside = (0, 2, 2, 2, 2), (3, 2, 2, 2, 2)
    strategy.vectors = [over, inside, (3, 3, 2, 2, 2), (3, 3, 3, 2, 2)]
    assert recommended_within(limit, strategy, strategy.recommend, 2) == strategy.vectors[1:3]
    assert list(limit.used) == strategy.vectors[:3]
    # Asked again, it gives what keeps to the budget, and measures nothing twice.
    assert recommended_within(limit, strategy, strategy.recommend, 3) == strategy.vectors[1:]
    assert list(limit.used) == strategy.vectors


def test_where_none_keeps_within_it_the_nearest_are_known() -> None:
    limit, strategy = Measured(), Fixed()
    strategy.vectors = [(0, 0, 0, 0, k) for k in range(4)]
    assert recommended_within(limit, strategy, strategy.recommend, 2) == []
    assert nearest(limit, 2) == [(0, 0, 0, 0, 3), (0, 0, 0, 0, 2)]


def test_a_strategy_that_means_something_else_by_the_name_is_left_alone() -> None:
    limit, strategy = Measured(), Fixed()
    strategy.limit = 5  # type: ignore[attr-defined]
    strategy.vectors = [(3, 3, 3, 3, 3)]
    assert recommended_within(limit, strategy, strategy.recommend, 1) == strategy.vectors


def test_exact_predictions_need_one_try() -> None:
    """Then all that a program proposes keeps to the budget."""

    class Exact(Measured):
        feasible = feasible_set(0)

        def __init__(self) -> None:
            self.used = {}

        def within(self, vectors: Sequence[Vector]) -> list[Vector]:
            self.used |= {v: float(self.feasible.cost(v)[0]) / BUDGET for v in vectors}
            return [vector for vector in vectors if self.used[vector] <= 1]

    limit = Exact()
    strategy = make_strategy("milp", NAMES, 0, limit.feasible)
    rng = np.random.default_rng(0)
    asked = strategy.ask(30)
    strategy.tell(asked, [-float(sum(v) + rng.random()) for v in asked])
    assert len(recommended_within(limit, strategy, strategy.recommend, 5)) == 5
    assert len(limit.used) == 5
