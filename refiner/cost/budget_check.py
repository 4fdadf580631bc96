"""What is emitted, held against the budgets as measured, and what a budget cannot see.

A search keeps to its budgets by predicted costs. A prediction can be off: for milliseconds, and
where a network runs other operations on other values.
"""

from collections.abc import Sequence

from refiner.cost.budget import Budget
from refiner.cost.costs import Cost, slot_costs
from refiner.cost.latency import Latency
from refiner.space.search_space import SearchSpace


def over_budget(
    budgets: Sequence[Budget],
    before: Cost,
    after: Cost,
    latency: tuple[Latency, Latency] | None = None,
) -> list[str]:
    """Return a line for each budget that a network exceeds.

    Args:
        budgets: all of the run.
        before: cost of the original, as measured.
        after: cost of the network, as measured.
        latency: milliseconds of both; without them a budget of latency is not checked.
    """
    lines = []
    for budget in budgets:
        if budget.resource == "latency":
            if latency is None or latency[1].median <= budget.most(latency[0].median):
                continue
            limit = budget.most(latency[0].median)
            cost, allowed = str(latency[1]), f"{limit:.2f} ms"
            if latency[1].median - latency[1].noise <= limit:
                allowed += ", which lies within the noise"
        else:
            original, count = (int(getattr(each, budget.resource)) for each in (before, after))
            most = budget.limit(original)
            if count <= most:
                continue
            share = f"{100 * count / max(original, 1):.1f} % of the original's"
            cost, allowed = f"{budget.words(count)} ({share})", budget.words(most)
        lines.append(
            f"over the budget: the refined network has {cost}, as measured; {budget} allows "
            f"{allowed}"
        )
    return lines


def not_covered(budgets: Sequence[Budget], original: Cost, space: SearchSpace) -> list[str]:
    """Return a line where a budget of MACs cannot see all that the networks of a run compute."""
    budget = next((each for each in budgets if each.resource == "macs"), None)
    of_candidates = dict.fromkeys(
        name for row in slot_costs(space) for cost in row for name in cost.missed
    )
    missed = [*original.missed, *(f"{name} in a candidate" for name in of_candidates)]
    if budget is None or not missed:
        return []
    return [
        f"the budget {budget} covers what is counted, and nobody counts {', '.join(missed)}. "
        "These may cost more than the budget says; a budget of latency covers all"
    ]
