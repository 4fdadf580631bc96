import numpy as np
import pytest

from refiner.cost.feasible import FeasibleSet
from refiner.search.around_budget import AroundBudget
from refiner.search.effects import Effects
from refiner.search.effects_check import CHECKS
from refiner.search.random_search import RandomStrategy
from refiner.search.scores import Scores

SLOTS, SIZE = 8, 4
WEIGHTS = 2.0 ** np.arange(SLOTS).repeat(SIZE) / 2.0**SLOTS
"""Share of the weights of each slot, for each candidate."""


def effects() -> Effects:
    draw = np.random.default_rng(0)
    products = draw.standard_normal((50, SLOTS, SIZE)) * np.arange(SIZE)
    products = (products * draw.uniform(0.2, 2, (SLOTS, 1))).reshape(50, -1)
    return Effects(
        sizes=(SIZE,) * SLOTS,
        gram_JJ=products.T @ products / 50,
        added_J=-np.tile(np.arange(SIZE) / SIZE, SLOTS) * WEIGHTS,
    )


def feasible() -> FeasibleSet:
    return FeasibleSet([[[10], [8], [5], [2]]] * SLOTS, [3], [50])


def true_score(vector) -> float:
    """Return a score in which every other slot costs more than estimated, and the rest less."""
    swapped = np.array(vector) > 0
    return -effects().loss(vector) * float(
        np.exp(np.where(np.arange(SLOTS) % 2, 0.3, -0.3) @ swapped)
    )


def play(around: AroundBudget, rounds: int, scores: Scores) -> list:
    asked = []
    for _ in range(rounds):
        vectors = around.ask(6, scores)
        scores.add(vectors, [true_score(vector) for vector in vectors])
        asked += vectors
    return asked


def test_checks_come_first_and_all_else_is_new_and_within_the_budget() -> None:
    around, scores = AroundBudget(effects(), feasible(), 0), Scores()
    asked = play(around, 8, scores)
    assert len(set(asked)) == len(asked) == 48
    assert asked[0] == (0,) * SLOTS
    assert all(sum(map(bool, vector)) == 1 for vector in asked[1 : 1 + CHECKS])
    for vector in asked[1 + CHECKS :]:
        assert feasible().holds(vector)
        assert feasible().cost(vector)[0] >= feasible().floors[0]
    assert around.check.rank(scores) > 0.6


def test_scores_correct_the_estimates() -> None:
    around, scores = AroundBudget(effects(), feasible(), 0), Scores()
    before = around.recommend(1, scores)[0]
    play(around, 8, scores)
    best = around.recommend(5, scores)
    assert true_score(best[0]) > true_score(before)
    assert around.expected(scores) == pytest.approx(true_score(best[0]))
    assert [true_score(v) for v in best if v in scores] == sorted(
        (true_score(v) for v in best if v in scores), reverse=True
    )
    assert len(set(best)) == 5
    assert all(map(feasible().holds, best))


def test_scores_of_other_architectures_lead_to_a_better_one_that_has_none() -> None:
    around, scores = AroundBudget(effects(), feasible(), 0), Scores()
    before = around.recommend(1, scores)[0]
    drawn = RandomStrategy([["op"] * SIZE] * SLOTS, feasible=feasible()).ask(80)
    known = [around.zero, *around.check.swaps, *(v for v in dict.fromkeys(drawn) if v != before)]
    scores.add(known, [true_score(vector) for vector in known])
    (asked,) = around.ask(1, scores)
    assert asked not in known
    assert true_score(asked) > true_score(before)


def test_the_best_within_other_limits() -> None:
    around = AroundBudget(effects(), feasible(), 0)
    (best,) = around.best(feasible().pruned(30), Scores())
    assert feasible().cost(best)[0] <= 30


def test_everything_is_feasible_without_a_budget() -> None:
    around, scores = AroundBudget(effects(), None, 0), Scores()
    play(around, 3, scores)
    assert around.recommend(3, scores)[0] == (0,) * SLOTS


def test_estimates_of_one_or_two_swaps_are_not_checked() -> None:
    tiny = Effects(sizes=(2,), gram_JJ=np.diag([0.0, 1]), added_J=np.zeros(2))
    around, scores = AroundBudget(tiny, None, 0), Scores()
    vectors = around.ask(4, scores)
    assert set(vectors) == {(0,), (1,)}
    scores.add([(1,)], [-1.0])
    assert around.check.rank(scores) == 1


def refitted(vector) -> float:
    """Return a score after a refit that makes up for more where more weights are left."""
    return -float(np.exp(0.3 * np.log(-true_score(vector)) - 4 * effects().weights(vector)))


def test_what_the_refit_favours_is_learned_in_a_few_rounds() -> None:
    around, scores = AroundBudget(effects(), feasible(), 0), Scores()
    play(around, 8, scores)
    known: dict = {}
    for _ in range(3):
        vectors = around.recommend_refitted(4, scores, known)
        assert len(vectors) == 4
        assert not set(vectors) & set(known)
        assert all(map(feasible().holds, vectors))
        known |= {vector: refitted(vector) for vector in vectors}
    before = around.recommend(12, scores)
    drawn = RandomStrategy([list("abcd")] * SLOTS, seed=1, feasible=feasible()).ask(500)
    assert max(known.values()) > max(map(refitted, before))
    assert max(known.values()) > max(map(refitted, drawn))
