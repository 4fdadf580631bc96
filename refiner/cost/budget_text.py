"""How budgets are written: ``macs=60%``, ``params=5e6``, ``latency=5ms``, ``0.6`` or a mapping.

A number of at most 1 is a share of the original's cost. A number above 100 is an amount of MACs or
parameters. Between the two it could be either, so it needs a unit.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TypeAlias

from refiner.core.errors import ConfigError

RESOURCES = ("macs", "params", "latency")
BudgetLike: TypeAlias = str | float | Mapping[str, str | float] | Sequence[str] | None
"""A text, a share of the MACs, amounts by resource, or several texts."""

_FORMS = "Give one like macs=60%, macs=0.6, macs=1.1e9, params=5e6, latency=80% or latency=5ms."
_ALIASES = {
    "flops": "macs",
    "mac": "macs",
    "gmacs": "macs",
    "madds": "macs",
    "parameters": "params",
    "weights": "params",
    "ms": "latency",
    "time": "latency",
}
_MOST_PERCENT = 100
_NUMBER = r"((?:\d+\.?\d*|\.\d+)(?:e\+?\d{1,2})?)"


def budget_texts(budgets: BudgetLike) -> tuple[str, ...]:
    """Return budgets as texts, one for each resource.

    Args:
        budgets: a text such as ``macs=60%,params=5e6``, several of them, a mapping such as
            ``{"macs": 0.6}``, or a number of at most 1, which is a share of the MACs.

    Raises:
        ConfigError: something else.
    """
    if budgets is None:
        return ()
    if _is_number(budgets):
        return (f"macs={budgets}",)
    if isinstance(budgets, Mapping):
        return tuple(f"{resource}={amount}" for resource, amount in budgets.items())
    texts = [budgets] if isinstance(budgets, str) else budgets
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(
            f"{budgets!r} is not a budget. Give a text such as macs=60%, a share such as 0.6, or "
            'several as {"macs": 0.6, "params": 5e6}.'
        )
    return tuple(part.strip() for text in texts for part in text.split(","))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def parse_budget(text: str) -> tuple[str, float, bool]:
    """Return the resource, the amount, and whether it is a share of the original's cost.

    Raises:
        ConfigError: the text is not a budget; the message says what may be meant.
    """
    resource, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        meant = f"Did you mean macs={text.strip()}? " if re.match(r"[\d.]", text.strip()) else ""
        raise ConfigError(f"{text!r} is not a budget. {meant}{_FORMS}")
    if resource not in RESOURCES:
        raise ConfigError(_unknown(resource, value))
    found = re.fullmatch(rf"{_NUMBER}\s*(%|ms|)", value)
    if found is None or float(found[1]) <= 0 or (found[2] == "ms" and resource != "latency"):
        raise ConfigError(f"{text!r} is not a budget. {_FORMS}")
    number, unit = float(found[1]), found[2]
    if unit == "%":
        if number > _MOST_PERCENT:
            raise ConfigError(
                f"{text!r} is more than the original's, so it binds nothing. Give less than "
                "100 %, or an amount where candidates may be larger."
            )
        return resource, number / 100, True
    if unit == "ms":
        return resource, number, False
    if number <= 1:
        return resource, number, True
    if resource == "latency" or number <= _MOST_PERCENT:
        amount = f"{resource}={found[1]}ms" if resource == "latency" else f"{resource}=5e6"
        other = "" if number > _MOST_PERCENT else f"{resource}={found[1]}% for a share of the "
        other += "original's, or " if other else ""
        raise ConfigError(f"{text!r} has no unit. Give {other}{amount} for an amount.")
    return resource, number, False


def _unknown(resource: str, value: str) -> str:
    """Return the message for a resource that there is no budget for."""
    key = resource.lower()
    near = difflib.get_close_matches(key, RESOURCES, n=1, cutoff=0.6)
    meant = _ALIASES.get(key) or (key if key in RESOURCES else "") or "".join(near)
    if meant:
        return f"there is no budget for {resource!r}. Did you mean {meant}={value}?"
    return f"there is no budget for {resource!r}. Choose one of: {', '.join(RESOURCES)}."
