"""Budgets: what a network may cost, ``macs=60%``, ``params=5e6``; and the architectures within them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from refiner.cost import measure_cost, slot_costs
from refiner.errors import ConfigError
from refiner.feasible import FeasibleSet
from refiner.space import SearchSpace

RESOURCES = ("macs", "params")
_UNITS = {"macs": "MACs", "params": "parameters"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that a network may cost of one resource."""

    resource: str
    """One of ``RESOURCES``."""
    amount: float
    """A share of the original's cost, or MACs or parameters."""
    relative: bool
    """Whether it is a share."""

    def __str__(self) -> str:
        return (
            f"{self.resource}={100 * self.amount:g}%"
            if self.relative
            else f"{self.resource}={self.amount:g}"
        )

    def limit(self, original: int) -> int:
        """Return the budget in MACs or parameters, for a network that costs ``original``."""
        return int(self.amount * original) if self.relative else int(self.amount)


def parse_budgets(budgets: str | Sequence[str]) -> tuple[Budget, ...]:
    """Return the budgets that texts such as ``macs=60%`` or ``macs=60%,params=5e6`` tell.

    Raises:
        ConfigError: a text that is no budget, or two for one resource.
    """
    texts = [budgets] if isinstance(budgets, str) else list(budgets)
    found = [_parse(part) for text in texts for part in text.split(",")]
    for budget in found:
        if sum(other.resource == budget.resource for other in found) > 1:
            raise ConfigError(f"there are two budgets for {budget.resource}. Give one.")
    return tuple(found)


def _parse(text: str) -> Budget:
    resource, equals, value = (part.strip() for part in text.partition("="))
    forms = "Give one like macs=60%, macs=1.1e9 or params=5e6."
    if not equals:
        raise ConfigError(f"{text!r} is no budget. {forms}")
    if resource not in RESOURCES:
        raise ConfigError(
            f"there is no budget for {resource!r}. Choose one of: {', '.join(RESOURCES)}."
        )
    if not re.fullmatch(r"(\d+\.?\d*|\.\d+)(e\+?\d+)?%?", value) or float(value.rstrip("%")) <= 0:
        raise ConfigError(f"{text!r} is no budget. {forms}")
    relative = value.endswith("%")
    amount = float(value.rstrip("%")) / (100 if relative else 1)
    return Budget(resource=resource, amount=amount, relative=relative)


def feasible_set(
    budgets: Sequence[Budget], model: nn.Module, space: SearchSpace, example_input: Any
) -> FeasibleSet | None:
    """Return the architectures of a space that keep to all budgets; None where there is no budget.

    Args:
        budgets: as :func:`parse_budgets` gave them.
        model: the original.
        space: its slots and candidates.
        example_input: one sample; MACs go by its size.

    Raises:
        ConfigError: the space cannot reach a budget; the message tells the least and the most.
    """
    if not budgets:
        return None
    measured = measure_cost(model, example_input)
    original = [getattr(measured, budget.resource) for budget in budgets]
    limits = [budget.limit(cost) for budget, cost in zip(budgets, original, strict=True)]
    costs = [
        [[getattr(cost, budget.resource) for budget in budgets] for cost in row]
        for row in slot_costs(space)
    ]
    base = [cost - sum(row[0][r] for row in costs) for r, cost in enumerate(original)]
    for r, budget in enumerate(budgets):
        least = base[r] + sum(min(cost[r] for cost in row) for row in costs)
        if least > limits[r]:
            most = base[r] + sum(max(cost[r] for cost in row) for row in costs)
            raise ConfigError(
                f"a budget of {limits[r]:,} {_UNITS[budget.resource]} "
                f"({_share(limits[r], original[r])} of the original's) is out of reach: this search space "
                f"goes from {least:,} ({_share(least, original[r])}) to {most:,} "
                f"({_share(most, original[r])}). Give more, or other candidates."
            )
    try:
        return FeasibleSet(costs, base, limits)
    except ConfigError:
        listed = " and ".join(
            f"{limit:,} {_UNITS[budget.resource]}"
            for budget, limit in zip(budgets, limits, strict=True)
        )
        raise ConfigError(
            f"{listed} are within reach each, but no architecture of this space keeps to all at once. "
            "Give more of one."
        ) from None


def _share(cost: int, original: int) -> str:
    return f"{100 * cost / original:.1f} %"
