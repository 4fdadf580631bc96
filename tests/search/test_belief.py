import numpy as np
import pytest

from refiner.search.belief import Belief
from refiner.search.effects import Effects

SIZES = (3, 3, 3, 3)


def effects() -> Effects:
    products = np.random.default_rng(0).standard_normal((30, 12))
    products[:, ::3] = 0
    return Effects(sizes=SIZES, gram_JJ=products.T @ products / 30, added_J=np.zeros(sum(SIZES)))


def vectors(count: int) -> list[tuple[int, ...]]:
    drawn = np.random.default_rng(1).integers(0, 3, (count, 4))
    return [tuple(row) for row in drawn.tolist() if sum(map(bool, row)) > 1]


def test_without_scores_the_estimates_stand() -> None:
    mean = Belief(effects(), [], []).mean()
    assert mean.slope == 1
    assert mean.value((1, 2, 0, 1)) == pytest.approx(np.log(effects().loss((1, 2, 0, 1))), abs=0.01)


def test_a_scale_and_swaps_that_cost_more_than_estimated_are_learned() -> None:
    def loss(vector) -> float:
        return 5 * effects().loss(vector) * (1.5 if vector[0] == 2 else 1) / (1 + (vector[3] > 0))

    known = vectors(60)
    mean = Belief(effects(), known, [loss(vector) for vector in known]).mean()
    for vector in [(2, 1, 0, 1), (0, 1, 2, 2), (1, 1, 1, 0), (2, 0, 2, 0)]:
        assert mean.value(vector) == pytest.approx(np.log(loss(vector)), abs=0.1)


def test_draws_differ_where_nothing_is_known_and_agree_where_much_is() -> None:
    known = vectors(60)
    belief = Belief(effects(), known, [effects().loss(vector) for vector in known])
    unsure = Belief(effects(), known[:2], [effects().loss(vector) for vector in known[:2]])

    def spread(of: Belief) -> float:
        draw = np.random.default_rng(2)
        return float(np.std([of.sample(draw).value((1, 2, 1, 2)) for _ in range(40)]))

    assert spread(belief) < spread(unsure) / 2
    assert np.mean(
        [unsure.sample(np.random.default_rng(s)).value((1, 2, 1, 2)) for s in range(300)]
    ) == pytest.approx(unsure.mean().value((1, 2, 1, 2)), abs=0.05)
