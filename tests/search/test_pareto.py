import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refiner.core.errors import RunError
from refiner.search.pareto import (
    Point,
    beaten_from_json,
    front,
    front_from_json,
    front_to_json,
    pick,
    spread,
)


def point(score: float, macs: int, params: int = 1, latency: float | None = None) -> Point:
    vector = (round(100 * score), macs, params)
    return Point(vector=vector, score=score, macs=macs, params=params, latency=latency)


def test_a_point_that_another_beats_is_not_on_the_front() -> None:
    good, cheap, beaten = point(0.9, 100), point(0.5, 10), point(0.5, 50)
    assert front([good, beaten, cheap]) == (cheap, good)
    assert front([good, point(0.5, 50, params=0), cheap]) == (cheap, good)
    fast = point(0.5, 50, latency=1.0)
    assert front([fast, point(0.5, 40, latency=2.0)]) == (point(0.5, 40, latency=2.0), fast)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_each_point_is_on_the_front_or_beaten_by_one_that_is(values) -> None:
    points = [point(score / 10, macs, params) for score, macs, params in values]
    best = front(points)
    for p in points:
        as_good = [q for q in best if q.score >= p.score and q.macs <= p.macs]
        assert as_good
        assert (p in best) == all((q.score, q.macs) == (p.score, p.macs) for q in as_good)


def test_a_spread_goes_from_cheap_to_dear_and_keeps_the_ends() -> None:
    scores = {(i,): value for i, value in enumerate([0.1, 0.3, 0.2, 0.5, 0.5, 0.6, 0.9])}
    assert spread(scores, lambda v: v[0], 10) == [(0,), (1,), (3,), (5,), (6,)]
    assert spread(scores, lambda v: v[0], 3) == [(0,), (3,), (6,)]
    assert spread(scores, lambda v: v[0], 1) == [(6,)]
    assert spread({}, lambda v: v[0], 3) == []


def test_a_front_comes_back_from_json() -> None:
    points = (point(0.5, 10), point(0.9, 100, latency=1.5))
    text = json.dumps(front_to_json(points, {"macs": 200}, "agreement"))
    assert front_from_json(json.loads(text)) == (points, {"macs": 200.0}, "agreement")
    assert beaten_from_json(json.loads(text)) == ()
    behind = json.loads(json.dumps(front_to_json(points[:1], {}, "agreement", points[1:])))
    assert beaten_from_json(behind) == points[1:]
    assert beaten_from_json({"front": []}) == ()  # as older files are
    with pytest.raises(RunError, match=r"pareto\.json is damaged"):
        beaten_from_json({"beaten": [{}]})
    version = {"format_version": 2, "measure": "score"}
    for damaged in (
        version, {**version, "front": [{}], "original": {}}, [],
        {**version, "front": 3, "original": 3}, {**version, "front": [], "original": []},
    ):  # fmt: skip
        with pytest.raises(RunError, match=r"pareto\.json is damaged"):
            front_from_json(damaged)


def test_the_best_within_limits_is_picked() -> None:
    points = (point(0.5, 10, params=7), point(0.7, 50, params=9), point(0.9, 100, params=5))
    assert pick(points, {"macs": 60}) == points[1]
    assert pick(points, {"macs": 60, "params": 8}) == points[0]
    assert pick(points, {"params": 8}) == points[2]
    with pytest.raises(RunError, match="the least: macs 10"):
        pick(points, {"macs": 9})
    timed = (point(0.5, 10, latency=2.5), point(0.7, 50, latency=1.25))
    assert pick(timed, {"latency": 2.0}) == timed[1]
    with pytest.raises(RunError, match=r"the least: latency 1\.25 ms\."):
        pick(timed, {"latency": 1.0})
    with pytest.raises(RunError, match="has no latency"):
        pick(points, {"latency": 9})


@pytest.mark.parametrize("version", [{}, {"format_version": 3}])
def test_a_front_of_another_version_is_refused(version) -> None:
    """Version 1 held the task's scores, whatever the search went by."""
    with pytest.raises(RunError, match=r"this refiner reads 2\. Name a vector instead of --pick"):
        front_from_json({"front": [], "original": {}, **version})


def test_of_equal_scores_the_cheaper_is_picked() -> None:
    points = (point(0.5, 10), point(0.7, 50, latency=2.0), point(0.7, 60, latency=1.0))
    assert pick(points, {"macs": 100}) == points[1]
    assert front([*reversed(points), points[0]]) == points
    same = {(0,): 0.5, (1,): 0.7, (2,): 0.9}
    assert spread(same, lambda _: 1.0, 3) == [(2,)]
