import pytest

from refiner.search.scores import Scores


def test_what_was_scored_twice_counts_by_its_mean() -> None:
    scores = Scores()
    scores.add([(0, 1), (1, 1), (0, 1)], [0.5, 0.6, 0.9])
    scores.add([(2, 0)], [0.6])
    assert scores.mean((0, 1)) == pytest.approx(0.7)
    assert scores.count((0, 1)) == 2
    assert scores.count((9, 9)) == 0
    assert scores.best(2) == [(0, 1), (1, 1)]  # of two that are alike, the first in order
    assert scores.best(9) == [(0, 1), (1, 1), (2, 0)]
    assert scores.means() == {(0, 1): pytest.approx(0.7), (1, 1): 0.6, (2, 0): 0.6}
    assert (2, 0) in scores
    assert (9, 9) not in scores
    with pytest.raises(KeyError):
        scores.mean((9, 9))


def test_the_state_is_plain_and_comes_back() -> None:
    scores, other = Scores(), Scores()
    scores.add([(0, 1), (0, 1), (3, 2)], [1, 0.25, 0.5])
    state = scores.state_dict()
    assert state == [([0, 1], [1.0, 0.25]), ([3, 2], [0.5])]
    other.load_state_dict(state)
    other.add([(3, 2)], [1.5])
    assert other.mean((3, 2)) == 1.0
    assert scores.mean((3, 2)) == 0.5  # the state is a copy
    assert list(other) == [(0, 1), (3, 2)]
    assert len(other) == 2
