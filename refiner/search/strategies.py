"""The table of strategies by name."""

from collections.abc import Callable

from refiner.core.errors import ConfigError
from refiner.cost.feasible import FeasibleSet
from refiner.search.milp import MilpStrategy
from refiner.search.optuna_samplers import OptunaStrategy
from refiner.search.policy_gradient import ControllerConfig, ControllerStrategy
from refiner.search.random_search import RandomStrategy
from refiner.search.strategy import Choices, Strategy

STEADY = ControllerConfig(entropy_weight=0.05)
"""Of the controller of a distilled search: agreement has hardly any noise, so it may settle sooner. See
benchmarks/README.md, swaps."""

_Make = Callable[[Choices, int, FeasibleSet | None, ControllerConfig | None], Strategy]
STRATEGIES: dict[str, _Make] = {
    "controller": lambda choices, seed, feasible, config: ControllerStrategy(
        choices, seed=seed, config=config, feasible=_limited(feasible)
    ),
    "milp": lambda choices, seed, feasible, _: MilpStrategy(choices, seed=seed, feasible=feasible),
    "nsga2": lambda choices, seed, feasible, _: OptunaStrategy(
        "nsga2", choices, seed=seed, feasible=feasible
    ),
    "tpe": lambda choices, seed, feasible, _: OptunaStrategy(
        "tpe", choices, seed=seed, feasible=_limited(feasible)
    ),
    "random": lambda choices, seed, feasible, _: RandomStrategy(
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
    name: str,
    choices: Choices,
    seed: int,
    feasible: FeasibleSet | None = None,
    *,
    controller: ControllerConfig | None = None,
) -> Strategy:
    """Return the strategy of that name, which proposes feasible architectures alone.

    Args:
        name: of the strategy.
        choices: names of the candidates of each slot.
        seed: fixes what it proposes.
        feasible: what it may propose.
        controller: settings, where it is ``controller``.

    Raises:
        ConfigError: there is none.
    """
    check_strategy(name)
    return STRATEGIES[name](choices, seed, feasible, controller)
