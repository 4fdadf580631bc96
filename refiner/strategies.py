"""The table of strategies by name."""

from collections.abc import Callable

from refiner.errors import ConfigError
from refiner.feasible import FeasibleSet
from refiner.strategy import Choices, Strategy
from refiner.strategy_controller import ControllerStrategy
from refiner.strategy_milp import MilpStrategy
from refiner.strategy_optuna import OptunaStrategy
from refiner.strategy_random import RandomStrategy

STRATEGIES: dict[str, Callable[[Choices, int, FeasibleSet | None], Strategy]] = {
    "controller": lambda choices, seed, feasible: ControllerStrategy(
        choices, seed=seed, feasible=_limited(feasible)
    ),
    "milp": lambda choices, seed, feasible: MilpStrategy(choices, seed=seed, feasible=feasible),
    "nsga2": lambda choices, seed, feasible: OptunaStrategy(
        "nsga2", choices, seed=seed, feasible=feasible
    ),
    "tpe": lambda choices, seed, feasible: OptunaStrategy(
        "tpe", choices, seed=seed, feasible=_limited(feasible)
    ),
    "random": lambda choices, seed, feasible: RandomStrategy(
        choices, seed=seed, feasible=_limited(feasible)
    ),
}


def _limited(feasible: FeasibleSet | None) -> FeasibleSet | None:
    """Return the set unless everything is in it: then there is nothing to mask."""
    return None if feasible is None or feasible.unlimited else feasible


def check_strategy(name: str) -> None:
    """Raise a ConfigError unless there is a strategy of that name."""
    if name not in STRATEGIES:
        raise ConfigError(f"unknown strategy {name!r}. Choose one of: {', '.join(STRATEGIES)}.")


def make_strategy(
    name: str, choices: Choices, seed: int, feasible: FeasibleSet | None = None
) -> Strategy:
    """Return the strategy of that name, which proposes feasible architectures alone.

    Raises:
        ConfigError: there is none.
    """
    check_strategy(name)
    return STRATEGIES[name](choices, seed, feasible)
