from refiner.cost.feasible import FeasibleSet
from refiner.search.other_costs import of_other_costs
from refiner.search.random_search import RandomStrategy
from refiner.search.scores import Scores
from refiner.search.strategies import make_strategy

CHOICES = [["original", "a"]] * 3
FEASIBLE = FeasibleSet([[[10], [5]]] * 3, [0], [25])


def cost(vector) -> float:
    return float(FEASIBLE.cost(vector)[0])


def scores() -> Scores:
    known = Scores()
    known.add([(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)], [0.9, 0.8, 0.1, 0.2])
    return known


def test_of_a_strategy_without_a_ladder_the_scored_ones_that_none_beats() -> None:
    strategy = RandomStrategy(CHOICES, feasible=FEASIBLE)
    assert of_other_costs(strategy, scores(), FEASIBLE, cost, 5) == [(1, 1, 1), (1, 0, 0)]
    assert of_other_costs(strategy, scores(), None, cost, 5)[-1] == (0, 0, 0)
    assert of_other_costs(strategy, scores(), FEASIBLE, None, 5) == []


def test_a_ladder_is_the_strategys_own() -> None:
    strategy = make_strategy("milp", CHOICES, 0, FEASIBLE)
    strategy.tell([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)], [0.9, 0.8, 0.7, 0.6])
    found = of_other_costs(strategy, scores(), FEASIBLE, cost, 3)
    assert found == strategy.ladder(3)
