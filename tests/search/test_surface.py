import itertools

import numpy as np
import pytest

from refiner.cost.feasible import FeasibleSet
from refiner.search.effects import Effects
from refiner.search.surface import Descent, Surface

SIZES = (3, 2, 4, 1, 3)


def surface(seed: int) -> Surface:
    draw = np.random.default_rng(seed)
    starts = np.cumsum([0, *SIZES[:-1]])
    products, weights = draw.standard_normal((20, sum(SIZES))), draw.standard_normal(sum(SIZES))
    products[:, starts], weights[starts] = 0, 0
    effects = Effects(sizes=SIZES, gram_JJ=products.T @ products / 20, added_J=np.zeros(sum(SIZES)))
    return Surface(effects=effects, slope=0.8, constant=0.3, weight_J=0.3 * weights)


def test_a_value_by_hand() -> None:
    effects = Effects(sizes=(2, 2), gram_JJ=np.diag([0.0, 2, 0, 4]), added_J=np.zeros(4))
    weights = np.array([0.0, 0.5, 0, -0.25])
    each = Surface(effects=effects, slope=2.0, constant=1.0, weight_J=weights)
    assert each.value((1, 1)) == pytest.approx(1 + 2 * np.log(3) + 0.25, abs=2e-3)


def test_a_descent_values_all_changes_of_two_slots() -> None:
    lowest = Descent(surface(0).effects, None).lowest(surface(0), [(0, 0, 0, 0, 0)], 1)
    near = [
        vector
        for vector in itertools.product(*map(range, SIZES))
        if sum(a != b for a, b in zip(vector, lowest[0], strict=True)) <= 2
    ]
    met = Descent(surface(0).effects, None).lowest(surface(0), lowest, len(near))
    values = [surface(0).value(vector) for vector in met]
    assert sorted(met) == sorted(near)
    assert values == sorted(values)
    assert met[0] == lowest[0]


@pytest.mark.parametrize("seed", range(8))
def test_the_lowest_is_that_of_trying_everything(seed: int) -> None:
    draw = np.random.default_rng(seed)
    costs = [draw.integers(0, 40, (size, 2)).tolist() for size in SIZES]
    feasible = FeasibleSet(costs, [1, 1], [110, 110], least_used=0.7)
    members = [
        vector
        for vector in itertools.product(*map(range, SIZES))
        if feasible.holds(vector) and (feasible.cost(vector) >= feasible.floors).any()
    ]
    found = Descent(surface(seed).effects, feasible).lowest(surface(seed), members[::4], 4)
    assert found[0] == min(members, key=surface(seed).value)
    assert set(found) <= set(members)
