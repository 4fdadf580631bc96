import numpy as np
import pytest

from refiner.search.after_refit import AfterRefit
from refiner.search.effects import Effects
from refiner.search.surface import Surface

SIZES = (3, 3, 3, 3)


def before() -> Surface:
    draw = np.random.default_rng(0)
    products = draw.standard_normal((30, 12))
    products[:, ::3] = 0
    added = -draw.uniform(0, 0.25, 12)
    added[::3] = 0
    effects = Effects(sizes=SIZES, gram_JJ=products.T @ products / 30, added_J=added)
    weights = draw.standard_normal(12) / 4
    weights[::3] = 0
    return Surface(effects=effects, slope=0.8, constant=0.3, weight_J=weights)


def vectors(count: int) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.random.default_rng(1).integers(0, 3, (count, 4)).tolist()]


def after(vector) -> float:
    return float(np.exp(0.2 + 0.4 * before().value(vector) - 3 * before().effects.weights(vector)))


def test_without_scores_half_of_the_logarithm_is_left_and_weights_count_twice() -> None:
    mean = AfterRefit(before(), {}).mean()
    for vector in vectors(5):
        share = before().effects.weights(vector)
        assert mean.value(vector) == pytest.approx(before().value(vector) / 2 - 2 * share)


def test_the_three_coefficients_are_learned() -> None:
    mean = AfterRefit(before(), {vector: after(vector) for vector in vectors(12)}).mean()
    for vector in [(2, 1, 0, 1), (0, 1, 2, 2), (1, 1, 1, 0), (2, 0, 2, 0)]:
        assert mean.value(vector) == pytest.approx(np.log(after(vector)), abs=0.05)


def test_draws_differ_where_nothing_is_known_and_agree_where_much_is() -> None:
    def spread(belief: AfterRefit) -> float:
        generator = np.random.default_rng(0)
        drawn = [belief.sample(generator) for _ in range(20)]
        return float(np.std([s.value((2, 1, 0, 1)) - s.value((0, 0, 2, 1)) for s in drawn]))

    known = {vector: after(vector) for vector in vectors(30)}
    assert spread(AfterRefit(before(), known)) < 0.2 * spread(AfterRefit(before(), {}))


def test_a_loss_never_falls_as_that_before_the_refit_rises() -> None:
    known = {vector: float(np.exp(-before().value(vector))) for vector in vectors(12)}
    assert AfterRefit(before(), known).mean().slope > 0
