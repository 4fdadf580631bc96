import numpy as np
import pytest

from refiner.search.effects import Effects
from refiner.search.effects_check import CHECKS, EffectsCheck
from refiner.search.scores import Scores


def effects(slots: int) -> Effects:
    """Return effects of slots of two candidates, in which the swap of slot s costs (s + 1) / 2."""
    gram_JJ = np.diag([each for s in range(slots) for each in (0.0, s + 1)])
    return Effects(sizes=(2,) * slots, gram_JJ=gram_JJ, added_J=np.zeros(2 * slots))


def test_swaps_are_spread_over_the_ranks() -> None:
    check = EffectsCheck(effects(15))
    assert [swap.index(1) for swap in check.swaps] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert all(sum(swap) == 1 for swap in check.swaps)
    assert len(EffectsCheck(effects(40)).swaps) == CHECKS
    assert len(EffectsCheck(effects(5)).swaps) == 5


def test_the_rank_waits_for_all_scores() -> None:
    check, scores = EffectsCheck(effects(3)), Scores()
    scores.add(check.swaps[:2], [-1.0, -2.0])
    assert check.missing(scores) == check.swaps[2:]
    assert check.rank(scores) is None
    scores.add(check.swaps[2:], [-1.5])
    assert check.missing(scores) == []
    assert check.rank(scores) == pytest.approx(1 / 3)


def test_estimates_of_one_or_two_swaps_are_not_ranked() -> None:
    check, scores = EffectsCheck(effects(2)), Scores()
    scores.add(check.swaps, [-2.0, -1.0])
    assert check.rank(scores) == 1
