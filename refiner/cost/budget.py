"""Budgets of MACs, parameters and latency, and what keeps to them.

Latencies come from a table of latency_table.py and are counted in nanoseconds. With a latency
budget, candidates that are not worth their time are left out (see ``worth_offering.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from refiner.core.batches import first_sample
from refiner.core.errors import ConfigError
from refiner.core.inputs import ExampleInput
from refiner.cost.budget_text import BudgetLike, budget_texts, parse_budget
from refiner.cost.costs import measure_cost, slot_costs
from refiner.cost.feasible import FeasibleSet
from refiner.cost.latency_table import LatencyTable
from refiner.cost.worth_offering import worth_offering
from refiner.graph.slots import Frozen
from refiner.space.search_space import SearchSpace

_NANOSECONDS = 1_000_000
"""In a millisecond."""


def nanoseconds(milliseconds: float) -> int:
    """Return milliseconds as costs of latency are counted."""
    return round(milliseconds * _NANOSECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that a network may cost of one resource."""

    resource: str
    """One of ``RESOURCES``."""
    amount: float
    """A share of the original's cost, or MACs, parameters or milliseconds."""
    relative: bool
    """Whether it is a share."""

    def __str__(self) -> str:
        """Return the text that gives this budget."""
        if self.relative:
            return f"{self.resource}={100 * self.amount:g}%"
        return f"{self.resource}={self.amount:.12g}" + ("ms" if self.resource == "latency" else "")

    def most(self, original: float) -> float:
        """Return the budget in MACs, parameters or ms, for an original that costs ``original``."""
        return self.amount * original if self.relative else self.amount

    def limit(self, original: int) -> int:
        """Return the budget as an integer, for an original that costs ``original``.

        Latencies are in nanoseconds.
        """
        if self.relative:
            return int(self.amount * original)
        return int(self.amount * (_NANOSECONDS if self.resource == "latency" else 1))

    def words(self, cost: int) -> str:
        """Return a cost for people: ``1,000 MACs``, ``5.20 ms``."""
        if self.resource == "latency":
            return f"{cost / _NANOSECONDS:.2f} ms"
        return f"{cost:,} {'MACs' if self.resource == 'macs' else 'parameters'}"


def parse_budgets(budgets: BudgetLike) -> tuple[Budget, ...]:
    """Parse budgets such as ``macs=60%`` or ``{"macs": 0.6}``; see ``budget_text.py``.

    Raises:
        ConfigError: what is not a budget, or two for one resource.
    """
    parsed = [parse_budget(text) for text in budget_texts(budgets)]
    found = [Budget(resource=name, amount=amount, relative=share) for name, amount, share in parsed]
    for budget in found:
        if sum(other.resource == budget.resource for other in found) > 1:
            raise ConfigError(f"there are two budgets for {budget.resource}. Give one.")
    return tuple(found)


def within_budgets(
    budgets: Sequence[Budget],
    model: nn.Module,
    space: SearchSpace,
    example_input: ExampleInput,
    latencies: LatencyTable | None = None,
) -> tuple[SearchSpace, FeasibleSet]:
    """Return the candidates that may serve, and the architectures that keep to all budgets.

    Args:
        budgets: as :func:`parse_budgets` gave them; without any, all architectures by their MACs.
        model: the original.
        space: its slots and candidates.
        example_input: MACs go by its size.
        latencies: of the model and its candidates; latency cannot be a budget without.

    Raises:
        ConfigError: the space cannot reach a budget; the message gives the least and the most.
    """
    measured = measure_cost(model, first_sample(example_input), cross_check=False)
    original = {"macs": measured.macs, "params": measured.params}
    costs: dict[str, list[list[int]]] = {
        name: [[getattr(cost, name) for cost in row] for row in slot_costs(space)]
        for name in original
    }
    if any(budget.resource == "latency" for budget in budgets):
        assert latencies is not None
        original["latency"] = nanoseconds(latencies.model.median)
        costs["latency"] = [
            [nanoseconds(each.median) for each in row] for row in latencies.rows(space)
        ]
        stairs = len(budgets) == 1  # a width that saves no time may save of another budget
        kept = worth_offering(space, latencies, stairs=stairs)
        space = _with_candidates(space, kept)
        costs = {
            name: [[row[k] for k in ks] for row, ks in zip(rows, kept, strict=True) if len(ks) > 1]
            for name, rows in costs.items()
        }
    if not budgets:
        macs = original["macs"] - sum(row[0] for row in costs["macs"])
        most = macs + sum(max(row) for row in costs["macs"])
        by_slot = [[[cost] for cost in row] for row in costs["macs"]]
        return space, FeasibleSet(by_slot, [macs], [most], least_used=0.0)
    for budget in budgets:
        _check_reach(budget, original[budget.resource], costs[budget.resource])
    limits = [budget.limit(original[budget.resource]) for budget in budgets]
    base = [original[b.resource] - sum(row[0] for row in costs[b.resource]) for b in budgets]
    by_slot = [
        [list(each) for each in zip(*rows, strict=True)]
        for rows in zip(*(costs[budget.resource] for budget in budgets), strict=True)
    ]
    try:
        return space, FeasibleSet(by_slot, base, limits)
    except ConfigError:
        listed = " and ".join(b.words(limit) for b, limit in zip(budgets, limits, strict=True))
        raise ConfigError(
            f"{listed} are within reach each, but no architecture of this space keeps to all "
            "at once. Give more of one."
        ) from None


def _check_reach(budget: Budget, original: int, costs: Sequence[Sequence[int]]) -> None:
    limit = budget.limit(original)
    least = original - sum(row[0] - min(row) for row in costs)
    most = original - sum(row[0] - max(row) for row in costs)
    if least > limit:

        def with_share(cost: int) -> str:
            return f"{budget.words(cost)} ({100 * cost / original:.1f} % of the original's)"

        raise ConfigError(
            f"a budget of {with_share(limit)} is out of reach: this search space goes from "
            f"{with_share(least)} to {with_share(most)}. Give more, or other candidates."
        )


def _with_candidates(space: SearchSpace, kept: Sequence[Sequence[int]]) -> SearchSpace:
    """Return the space with the kept candidates; freeze slots that keep only the original."""
    slots = list(zip(space.slots, space.candidates, kept, strict=True))
    slow = [
        Frozen(name=site.conv, reason="no candidate is faster on this device")
        for slot, _, ks in slots
        if len(ks) == 1
        for site in slot.all_convs
    ]
    if len(slow) == sum(len(slot.all_convs) for slot in space.slots):
        raise ConfigError(
            "no candidate is faster than the original in any slot on this device, so nothing can "
            "be won. Name other candidates, or give a budget of MACs."
        )
    return replace(
        space,
        slots=tuple(slot for slot, _, ks in slots if len(ks) > 1),
        candidates=tuple(tuple(names[k] for k in ks) for _, names, ks in slots if len(ks) > 1),
        frozen=(*space.frozen, *slow),
    )
