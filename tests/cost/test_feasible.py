import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refiner.core.errors import ConfigError
from refiner.cost import feasible as module
from refiner.cost.feasible import FeasibleSet
from refiner.search.random_search import RandomStrategy
from refiner.search.strategies import STRATEGIES, make_strategy


def everything(costs):
    return list(itertools.product(*(range(len(each)) for each in costs)))


def members(costs, base, limits, least_used):
    """Return, by going through all there are, the architectures that the set should hold."""
    totals = {
        vector: np.array(base) + sum(np.array(each[i]) for each, i in zip(costs, vector))
        for vector in everything(costs)
    }
    inside = {v: t for v, t in totals.items() if (t <= limits).all()}
    binding = [r for r in range(len(limits)) if max(t[r] for t in totals.values()) > limits[r]]
    if not binding:
        return set(inside)
    used = {v: max(t[r] / limits[r] for r in binding) for v, t in inside.items()}
    share = min(least_used, max(used.values()))
    return {v for v, u in used.items() if u >= share - 1e-12}


@st.composite
def problems(draw):
    count = draw(st.integers(1, 3))
    cost = st.lists(st.integers(0, 50), min_size=count, max_size=count)
    costs = draw(st.lists(st.lists(cost, min_size=1, max_size=3), min_size=1, max_size=5))
    base = draw(st.lists(st.integers(1, 30), min_size=count, max_size=count))
    chosen = [draw(st.sampled_from(each)) for each in costs]
    limits = [b + sum(c[r] for c in chosen) for r, b in enumerate(base)]
    return costs, base, limits


@settings(max_examples=200, deadline=None)
@given(problems(), st.sampled_from([0.0, 0.5, 0.97]))
def test_the_choices_lead_to_all_members_and_to_nothing_else(problem, least_used) -> None:
    costs, base, limits = problem
    feasible = FeasibleSet(costs, base, limits, least_used=least_used)
    expected = members(costs, base, limits, least_used)
    reached = {(): feasible.nothing_spent(1)}
    for slot in range(len(costs)):
        step = {}
        for vector, spent in reached.items():
            ways = feasible.ways(slot, spent)[0]
            behind = [
                sum(v[: slot + 1] == (*vector, i) for v in expected) for i in range(len(ways))
            ]
            total = max(ways.sum(), 1e-300)
            assert (ways / total).tolist() == pytest.approx(
                [n / max(sum(behind), 1) for n in behind]
            )
            assert [bool(w) for w in ways] == [bool(n) for n in behind]
            for i in np.flatnonzero(ways):
                step[(*vector, int(i))] = spent + feasible.spent(slot, np.array([i]))
        reached = step
    assert set(reached) == expected
    assert all(feasible.holds(vector) for vector in expected)


@settings(max_examples=50, deadline=None)
@given(problems(), st.sampled_from([4, 16]))
def test_with_sums_counted_together_nothing_goes_over_a_limit(problem, most) -> None:
    costs, base, limits = problem
    kept, module._MOST_SUMS = module._MOST_SUMS, most
    try:
        feasible = FeasibleSet(costs, base, limits)
    except ConfigError:
        return  # the few that there are lie at the edge
    finally:
        module._MOST_SUMS = kept
    choices = [[f"op{i}" for i in range(len(each))] for each in costs]
    for name in STRATEGIES:
        strategy = make_strategy(name, choices, 0, feasible)
        asked = [] if name == "milp" else strategy.ask(20)  # milp measures what it does not propose
        for vector in [*asked, *strategy.recommend(5)]:
            assert feasible.holds(vector)


def test_one_resource_is_never_out_of_reach_when_sums_are_counted_together(monkeypatch) -> None:
    monkeypatch.setattr(module, "_MOST_SUMS", 8)
    costs = [[[i * 7 % 31], [i * 11 % 37 + 1]] for i in range(12)]
    feasible = FeasibleSet(costs, [5], [int(5 + sum(min(c[0] for c in each) for each in costs))])
    choices = [["original", "a"]] * 12
    assert feasible.cost(RandomStrategy(choices, feasible=feasible).ask(1)[0]) == feasible.least


def test_a_limit_that_nothing_goes_over_is_nothing_to_use_up() -> None:
    costs = [[[10, 1], [5, 2], [3, 9]]] * 4
    assert len(members(costs, [0, 0], [60, 99], 0.97)) == 81
    assert FeasibleSet(costs, [0, 0], [60, 99]).unlimited
    feasible = FeasibleSet(costs, [0, 0], [60, 8])  # the first does not bind
    for vector in RandomStrategy([["op"] * 3] * 4, feasible=feasible).ask(50):
        assert feasible.cost(vector)[1] == 8


def test_deep_spaces_have_more_ways_than_a_float_can_tell() -> None:
    costs = [[[3], [2], [1], [0]]] * 600
    feasible = FeasibleSet(costs, [0], [900])
    vector = RandomStrategy([["op"] * 4] * 600, feasible=feasible).ask(1)[0]
    assert 873 <= feasible.cost(vector)[0] <= 900


def test_a_set_without_a_member_is_refused() -> None:
    with pytest.raises(ConfigError, match="no architecture"):
        FeasibleSet([[[10], [4]]], [1], [4])


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_strategies_propose_members_alone(name: str) -> None:
    costs = [[[100, 10], [40, 4], [5, 30]]] * 8
    feasible = FeasibleSet(costs, [50, 5], [500, 100])
    strategy = make_strategy(name, [["original", "a", "b"]] * 8, 0, feasible)
    for _ in range(5):
        vectors = strategy.ask(10)
        strategy.tell(vectors, [float(v.count(0)) for v in vectors])
        for vector in [*(() if name == "milp" else vectors), *strategy.recommend(5)]:
            cost = feasible.cost(vector)
            assert (cost <= [500, 100]).all()
            assert (cost >= feasible.floors).any()


def test_random_draws_the_members_alike() -> None:
    # 1 + 2, 2 + 1 and 2 + 2 are within 4 and use three quarters of it; 1 + 1 and 9 + 1 are not.
    feasible = FeasibleSet([[[1], [2], [9]], [[1], [2]]], [0], [4], least_used=0.75)
    drawn = RandomStrategy([["original", "a", "b"], ["original", "a"]], feasible=feasible).ask(3000)
    counts = {vector: drawn.count(vector) / 3000 for vector in set(drawn)}
    assert set(counts) == {(0, 1), (1, 0), (1, 1)}
    assert all(share == pytest.approx(1 / 3, abs=0.04) for share in counts.values())


def test_the_controllers_probabilities_sum_to_one_over_the_members() -> None:
    from refiner.search.policy_gradient import ControllerStrategy

    feasible = FeasibleSet([[[3], [1]], [[3], [1]], [[3], [1]]], [0], [7], least_used=0.5)
    strategy = ControllerStrategy([["original", "a"]] * 3, feasible=feasible)
    every = torch.tensor(everything([[0, 0]] * 3))
    with torch.no_grad():
        probability = strategy.controller.evaluate(every).log_prob_M.exp()
    inside = torch.tensor(
        [feasible.holds(v) and bool(feasible.cost(v) >= 4) for v in every.tolist()]
    )
    assert float(probability[inside].sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(probability[~inside].sum()) == 0.0


def test_the_share_of_a_limit_that_is_used_by_hand() -> None:
    feasible = FeasibleSet([[[8, 1], [2, 1]], [[8, 1], [4, 1]]], [4, 0], [16, 9])
    assert feasible.used((0, 1)) == 1.0  # 4 + 8 + 4 of 16; the second limit does not bind
    assert feasible.used((1, 1)) == 10 / 16


def test_a_share_that_rounds_up_over_the_largest_total_still_has_a_member() -> None:
    # In floats 7 / 25 * 25 is more than 7, and nothing between 7 and 25 can be reached.
    feasible = FeasibleSet([[[7], [1], [30]]], [0], [25])
    assert RandomStrategy([["original", "a", "b"]], feasible=feasible).ask(20) == [(0,)] * 20


def test_a_pruned_set_keeps_to_its_limit_and_uses_nothing_up() -> None:
    feasible = FeasibleSet([[[8, 1], [4, 1], [1, 9]]] * 2, [1, 1], [17, 9])
    pruned = feasible.pruned(9)
    assert pruned.limits.tolist() == [9, 9]
    drawn = set(RandomStrategy([["op"] * 3] * 2, feasible=pruned).ask(200))
    assert drawn == {(1, 1)}  # 1 + 4 + 4 of the first; an op of 9 is over the second limit
    assert set(RandomStrategy([["op"] * 3] * 2, feasible=feasible.pruned(13)).ask(200)) == {
        (0, 1), (1, 0), (1, 1),
    }  # fmt: skip
    with pytest.raises(ConfigError):
        feasible.pruned(8)


def test_a_limit_that_is_just_reached_is_no_limit_that_is_used() -> None:
    feasible = FeasibleSet([[[8, 5], [2, 1]]] * 2, [0, 0], [10, 10])
    assert feasible.used((0, 1)) == 1.0
    assert feasible.used((1, 1)) == 0.4
    assert FeasibleSet([[[8], [2]]] * 2, [0], [16]).used((0, 0)) == 0.0


def test_each_resource_has_its_costs_base_and_limit() -> None:
    feasible = FeasibleSet([[[8, 1], [2, 3]], [[5, 6], [4, 7]]], [10, 20], [22, 40])
    assert feasible.resources() == [([[8, 2], [5, 4]], 10, 22), ([[1, 3], [6, 7]], 20, 40)]
    assert (feasible.least.tolist(), feasible.most.tolist()) == ([16, 27], [23, 30])


def test_sums_that_are_merged_are_some_of_them_and_their_ways_are_added(monkeypatch) -> None:
    monkeypatch.setattr(module, "_MOST_SUMS", 64)
    sums = np.array([[i * 3 + 100, j * 7] for i in range(30) for j in range(30)])
    ways = np.arange(900.0)
    merged, counted = module._thinned(sums, ways)
    assert 32 <= len(merged) <= 64
    assert counted.sum() == ways.sum()
    assert {tuple(row) for row in merged} <= {tuple(row) for row in sums}
    # Each bin is an eighth of the range; the first sum of each stands for it.
    assert np.abs(np.diff(np.unique(merged[:, 0]))).max() <= 14
    assert merged[0].tolist() == [100, 0]


@settings(max_examples=50, deadline=None)
@given(problems(), st.integers(0, 20), st.data())
def test_other_costs_of_a_resource_make_the_set_that_they_would_have_made(
    problem, more, data
) -> None:
    costs, base, limits = problem
    r = data.draw(st.integers(0, len(limits) - 1))
    changed = [[[c + more * (i == r) * (k > 0) for i, c in enumerate(each)] for k, each in enumerate(slot)]
               for slot in costs]  # fmt: skip
    bases = [b + (i == r) for i, b in enumerate(base)]
    first = FeasibleSet(costs, base, limits, least_used=0.5)
    column = [[each[r] for each in slot] for slot in changed]
    try:
        expected = FeasibleSet(changed, bases, limits, least_used=0.5)
    except ConfigError:
        with pytest.raises(ConfigError):
            first.with_costs(r, column, bases[r])
        return
    found = first.with_costs(r, column, bases[r])
    assert found.floors.tolist() == expected.floors.tolist()
    for vector in everything(costs):
        assert found.cost(vector).tolist() == expected.cost(vector).tolist()
        assert first.cost(vector).tolist() == FeasibleSet(costs, base, limits).cost(vector).tolist()
