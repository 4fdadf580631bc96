import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refiner.core.errors import ConfigError
from refiner.cost.feasible import FeasibleSet
from refiner.search.milp import MilpStrategy


def told(strategy: MilpStrategy, score, rounds: int = 60) -> MilpStrategy:
    for _ in range(rounds):
        vectors = strategy.ask(5)
        strategy.tell(vectors, [score(v) for v in vectors])
    return strategy


@st.composite
def problems(draw):
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    resources = draw(st.integers(1, 2))
    cost = st.lists(st.integers(0, 40), min_size=resources, max_size=resources)
    costs = [draw(st.lists(cost, min_size=n, max_size=n)) for n in sizes]
    values = [draw(st.lists(st.integers(-50, 50), min_size=n, max_size=n)) for n in sizes]
    limits = [1 + sum(draw(st.sampled_from(each))[r] for each in costs) for r in range(resources)]
    return sizes, costs, values, limits


@settings(max_examples=60, deadline=None)
@given(problems())
def test_the_optimum_is_that_of_trying_everything(problem) -> None:
    sizes, costs, values, limits = problem
    try:
        feasible = FeasibleSet(costs, [1] * len(limits), limits)
    except ConfigError:
        return

    def score(vector) -> float:
        return sum(each[k] for each, k in zip(values, vector, strict=True)) / 100

    strategy = told(MilpStrategy([["op"] * n for n in sizes], feasible=feasible), score, 4)
    members = [
        vector
        for vector in itertools.product(*map(range, sizes))
        if feasible.holds(vector) and (feasible.cost(vector) >= feasible.floors).any()
    ]
    recommended = strategy.recommend(3)
    assert set(recommended) <= set(members)
    assert len(recommended) == min(3, len(members))
    assert score(recommended[0]) == pytest.approx(max(map(score, members)))


def test_pairs_mend_what_single_swaps_get_wrong() -> None:
    # Either swap alone is free, the two together are a disaster; a third costs a little.
    def score(vector) -> float:
        return 0.9 - 0.5 * (vector[0] and vector[1]) - 0.05 * vector[2]

    costs = [[[10], [0]]] * 3
    feasible = FeasibleSet(costs, [0], [10])
    choices = [["original", "a"]] * 3
    singles = MilpStrategy(choices, feasible=feasible)
    for vector in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        singles.tell([vector], [score(vector)])
    assert singles.recommend(1) == [(1, 1, 0)]
    assert told(singles, score).recommend(1)[0] in [(1, 0, 1), (0, 1, 1)]


def test_what_is_least_known_is_asked_first() -> None:
    strategy = MilpStrategy([["original", "a", "b"]] * 2)
    first = strategy.ask(5)
    assert first[0] == (0, 0)
    assert set(first) == {(0, 0), (1, 0), (2, 0), (0, 1), (0, 2)}
    strategy.tell(first[:3], [0.5] * 3)
    assert strategy.ask(2) == first[3:]
    assert strategy.metrics()["swaps"] == 2


def test_large_costs_are_kept_to_the_last_unit() -> None:
    costs = [[[1_000_000_001], [500_000_000]]] * 3
    feasible = FeasibleSet(costs, [0], [2_000_000_001], least_used=0.0)  # a full one and two halves
    strategy = MilpStrategy([["original", "a"]] * 3, feasible=feasible)
    told(strategy, lambda vector: 1.0 - 0.1 * sum(vector), 4)
    for vector in strategy.recommend(8):
        assert feasible.cost(vector)[0] <= 2_000_000_001


def test_the_ladder_goes_from_cheap_to_dear_within_the_budget() -> None:
    costs = [[[10], [4], [0]]] * 4
    feasible = FeasibleSet(costs, [5], [35])
    strategy = MilpStrategy([["original", "a", "b"]] * 4, feasible=feasible)
    told(strategy, lambda vector: 1.0 - 0.01 * sum(vector) - 0.02 * vector[3])
    ladder = strategy.ladder(5)
    prices = [int(feasible.cost(vector)[0]) for vector in ladder]
    assert prices == sorted(prices)
    assert prices[0] < 12
    assert prices[-1] <= 35
    assert len(set(ladder)) == len(ladder) >= 4
    assert ladder[-1][3] == 0  # the dearest slot to change is the last to be changed


def learned(scores: dict[tuple[int, ...], float]) -> MilpStrategy:
    """Return a strategy over slots of two candidates that knows these scores."""
    strategy = MilpStrategy([["original", "a"]] * len(next(iter(scores))))
    strategy.tell(list(scores), list(scores.values()))
    return strategy


def test_what_a_pair_adds_is_what_its_swaps_do_not_explain() -> None:
    strategy = learned(
        {(0, 0, 0): 0.5, (1, 0, 0): 0.6, (0, 1, 0): 0.7, (0, 0, 1): 0.8, (1, 1, 0): 0.75}
    )
    strategy.ask(1)  # the round begins with the solutions
    assert strategy.metrics() == {
        "swaps": 3,
        "expected": pytest.approx(0.5 + 0.1 + 0.2 + 0.3 - 0.05),
    }
    assert strategy.recommend(3) == [(1, 1, 1), (0, 1, 1), (1, 0, 1)]


def test_a_pair_that_gains_needs_both_and_one_that_costs_is_paid_in_full() -> None:
    gaining = learned({(0, 0): 0.5, (1, 0): 0.4, (0, 1): 0.4, (1, 1): 0.6})
    assert gaining.recommend(1) == [(1, 1)]
    gaining = learned({(0, 0): 0.5, (1, 0): 0.3, (0, 1): 0.3, (1, 1): 0.45})
    assert gaining.recommend(1) == [(0, 0)]
    costly = learned({(0, 0): 0.5, (1, 0): 0.7, (0, 1): 0.72, (1, 1): 0.6})
    assert costly.recommend(1) == [(0, 1)]


def test_pairs_are_asked_for_by_the_size_of_their_swaps() -> None:
    effects = (0.1, 0.45, 0.22, 0.3)
    zero = (0, 0, 0, 0)
    singles = {tuple(int(i == s) for i in range(4)): 0.5 + e for s, e in enumerate(effects)}
    asked = dict.fromkeys(learned({zero: 0.5, **singles}).ask(15))
    assert [vector for vector in asked if sum(vector) == 2] == [
        (0, 1, 0, 1), (0, 1, 1, 0), (1, 1, 0, 0), (0, 0, 1, 1), (1, 0, 0, 1), (1, 0, 1, 0),
    ]  # fmt: skip


def test_a_swap_without_a_score_counts_as_the_mean_of_the_others() -> None:
    strategy = learned({(0, 0, 0): 0.5, (1, 0, 0): 0.7, (0, 0, 1): 0.6})
    assert strategy.recommend(3) == [(1, 1, 1), (1, 1, 0), (1, 0, 1)]
    strategy.tell([(1, 1, 1)], [0.1])
    assert strategy.recommend(3) == [(1, 1, 0), (1, 0, 1), (1, 1, 1)]  # its own score counts


def test_of_two_budgets_either_may_be_the_one_that_is_used_up() -> None:
    # (1, 0) uses up the first, (0, 1) the second and is better; both together are over either.
    costs = [[[0, 0], [10, 5], [20, 20]], [[0, 0], [5, 10], [20, 20]]]
    feasible = FeasibleSet(costs, [0, 0], [10, 10])
    strategy = MilpStrategy([["original", "a", "b"]] * 2, feasible=feasible)
    scores = {(0, 0): 0.1, (1, 0): 0.3, (0, 1): 0.5, (2, 0): 0.9, (0, 2): 0.9}
    strategy.tell(list(scores), list(scores.values()))
    assert strategy.recommend(1) == [(0, 1)]
    assert strategy.recommend(3) == [(0, 1), (1, 0)]


def test_swaps_without_the_original_s_score_are_no_trouble() -> None:
    assert learned({(1, 0): 0.6}).recommend(1)


def test_a_ladder_has_no_more_steps_than_asked_and_keeps_to_the_other_budget() -> None:
    costs = [[[10, 0], [4, 5], [0, 9]]] * 2
    feasible = FeasibleSet(costs, [5, 0], [25, 9])  # both slots at 0 would cost 18 of 9
    strategy = MilpStrategy([["original", "a", "b"]] * 2, feasible=feasible)
    told(strategy, lambda vector: 1.0 - 0.1 * vector[0] - 0.2 * vector[1], 4)
    assert strategy.ladder(1) == [(0, 0)]
    ladder = strategy.ladder(4)
    assert 2 <= len(ladder) <= 4
    assert all(feasible.holds(vector) for vector in ladder)
