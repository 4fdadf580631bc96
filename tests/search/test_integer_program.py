"""Programs whose solutions are known; tests/search/test_milp.py compares with trying everything."""

from refiner.cost.feasible import FeasibleSet
from refiner.search.integer_program import Program

EFFECTS = {(0, 1): -1.0, (1, 1): -2.0, (2, 1): -4.0}


def test_the_best_within_a_budget_and_those_after_it() -> None:
    feasible = FeasibleSet([[[10], [5]]] * 3, [0], [20])  # two of three swaps
    program = Program((2, 2, 2), EFFECTS, {}, feasible)
    assert program.best(2) == [(1, 1, 0), (1, 0, 1)]


def test_pairs_count_where_both_are_swapped() -> None:
    feasible = FeasibleSet([[[10], [5]]] * 3, [0], [20])
    program = Program((2, 2, 2), EFFECTS, {((0, 1), (1, 1)): -9.0}, feasible)
    assert program.best(1) == [(1, 0, 1)]


def test_no_more_solutions_than_architectures() -> None:
    assert len(Program((2,), {(0, 1): 1.0}, {}, None).best(5)) == 2
