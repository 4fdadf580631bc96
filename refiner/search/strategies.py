"""The table of strategies by name, and how a setting becomes a strategy."""

from refiner.core.errors import ConfigError
from refiner.cost.feasible import FeasibleSet
from refiner.search.informed_controller import InformedController
from refiner.search.milp import MilpStrategy
from refiner.search.policy_gradient import ControllerConfig, ControllerStrategy
from refiner.search.random_search import RandomStrategy
from refiner.search.strategy import Choices, Strategy, StrategyFactory

STEADY = ControllerConfig(entropy_weight=0.05)
"""For the controller of a distilled search: agreement has little noise, so it may settle sooner."""

AUTO = "auto"
"""The name that :func:`resolve_strategy` replaces."""

CONTROLLERS: dict[str, type[ControllerStrategy]] = {
    "controller": ControllerStrategy,
    "informed_controller": InformedController,
}
"""Strategies with a :class:`ControllerConfig`."""

STRATEGIES: dict[str, StrategyFactory] = {
    "controller": lambda choices, feasible, seed: ControllerStrategy(
        choices, seed=seed, feasible=_limited(feasible)
    ),
    "informed_controller": lambda choices, feasible, seed: InformedController(
        choices, seed=seed, feasible=_limited(feasible)
    ),
    "milp": lambda choices, feasible, seed: MilpStrategy(choices, seed=seed, feasible=feasible),
    "random": lambda choices, feasible, seed: RandomStrategy(
        choices, seed=seed, feasible=_limited(feasible)
    ),
}

INFORMED = ("informed_controller", "milp")
"""Those that go by estimated effects of swaps, where a search can have them."""

_METHODS = ("ask", "tell", "recommend", "metrics", "state_dict", "load_state_dict")


def resolve_strategy(name: str, *, trained: bool, budget: bool) -> str:
    """Return the strategy that ``auto`` stands for; any other name stays as it is.

    Args:
        name: of a strategy, or ``auto``.
        trained: whether the model is trained, so that its candidates are distilled.
        budget: whether there is a budget.
    """
    if name != AUTO:
        return name
    return "milp" if trained and budget else "controller"


def check_strategy(strategy: str | Strategy | StrategyFactory) -> None:
    """Check a strategy before any long work begins.

    Raises:
        ConfigError: the name is unknown, or the object lacks a method of the Strategy protocol.
    """
    if isinstance(strategy, str):
        if strategy not in (AUTO, *STRATEGIES):
            names = ", ".join((AUTO, *STRATEGIES))
            raise ConfigError(f"unknown strategy {strategy!r}. Choose one of: {names}.")
    elif not _is_factory(strategy):
        _check_methods(strategy)


def strategy_name(strategy: str | Strategy | StrategyFactory) -> str:
    """Return what reports and config.json call a strategy."""
    if isinstance(strategy, str):
        return strategy
    return str(getattr(strategy, "__qualname__", type(strategy).__qualname__))


def make_strategy(
    strategy: str | Strategy | StrategyFactory,
    choices: Choices,
    seed: int,
    feasible: FeasibleSet | None = None,
    *,
    controller: ControllerConfig | None = None,
) -> Strategy:
    """Return a strategy; one of the table proposes only feasible architectures.

    Args:
        strategy: a name other than ``auto``, a strategy, or what makes one.
        choices: names of the candidates of each slot.
        seed: fixes what it proposes.
        feasible: what it may propose.
        controller: settings of the strategies in :data:`CONTROLLERS`.

    Raises:
        ConfigError: the name is unknown, or the object lacks a method of the Strategy protocol.
    """
    check_strategy(strategy)
    if isinstance(strategy, str):
        if strategy in CONTROLLERS:
            kind = CONTROLLERS[strategy]
            return kind(choices, seed=seed, config=controller, feasible=_limited(feasible))
        if strategy == AUTO:
            raise ConfigError("auto is not a strategy. Resolve it first, or name a strategy.")
        return STRATEGIES[strategy](choices, feasible, seed)
    if not _is_factory(strategy):
        return strategy  # type: ignore[return-value]
    made = strategy(choices, feasible, seed)  # type: ignore[operator]
    _check_methods(made)
    return made


def _is_factory(strategy: object) -> bool:
    """Return whether a strategy is still to be made: a class, or a callable without ``ask``."""
    return isinstance(strategy, type) or (callable(strategy) and not hasattr(strategy, "ask"))


def _check_methods(strategy: object) -> None:
    for method in _METHODS:
        if not callable(getattr(strategy, method, None)):
            raise ConfigError(
                f"the strategy {type(strategy).__qualname__} has no method {method}. "
                "See refiner.search.strategy.Strategy."
            )


def _limited(feasible: FeasibleSet | None) -> FeasibleSet | None:
    """Return the set unless everything is in it: then there is nothing to mask."""
    return None if feasible is None or feasible.unlimited else feasible
