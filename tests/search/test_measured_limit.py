from collections.abc import Sequence

import pytest

from refiner.cost.feasible import FeasibleSet
from refiner.search.measured_limit import recommended_within
from refiner.search.strategies import STRATEGIES, make_strategy
from refiner.space.architecture import Vector

NAMES = [("original", "keep0.75", "keep0.5", "keep0.25")] * 5
COSTS = [[[8], [6], [4], [2]]] * 5


def feasible_set(dearer: int) -> FeasibleSet:
    """Return the architectures within 24, if each swapped slot takes so much more."""
    return FeasibleSet(
        [[[8], [6 + dearer], [4 + dearer], [2 + dearer]]] * 5, [0], [24], least_used=0.9
    )


class Measured:
    """Architectures take one more in each swapped slot than was predicted."""

    def __init__(self) -> None:
        self.feasible = feasible_set(0)
        self.seen: list[Vector] = []

    def within(self, vectors: Sequence[Vector]) -> list[Vector]:
        self.seen += vectors
        self.feasible = feasible_set(1)
        return [vector for vector in vectors if self.feasible.holds(vector)]


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
    assert len(limit.seen) == len(set(limit.seen))
    fresh = make_strategy(name, NAMES, 0, feasible_set(0))
    fresh.limit(feasible_set(1))
    assert all(feasible_set(1).holds(vector) for vector in fresh.recommend(5))


def test_architectures_over_the_limit_make_room_for_the_next(monkeypatch) -> None:
    limit, strategy = Measured(), Fixed()
    over, inside = (0, 2, 2, 2, 2), (3, 2, 2, 2, 2)
    strategy.vectors = [over, inside, (3, 3, 2, 2, 2)]
    assert not feasible_set(1).holds(over)
    assert recommended_within(limit, strategy, strategy.recommend, 2) == strategy.vectors[1:]
    assert recommended_within(None, strategy, strategy.recommend, 2) == [over, inside]


def test_where_none_keeps_within_it_the_last_are_returned() -> None:
    limit, strategy = Measured(), Fixed()
    strategy.vectors = [(0, 0, 0, 0, k) for k in range(4)]
    found = recommended_within(limit, strategy, strategy.recommend, 2)
    assert (found, limit.seen) == (strategy.vectors[2:], strategy.vectors)
