"""The candidates that are worth offering where milliseconds are the budget.

Milliseconds of channel prunings are a staircase: runtimes compute channels in blocks, so that a
width may take as long as the next larger one, or longer. Each step of the stairs keeps its widest
candidate. The steps are those of the slot as it was timed, so that grouped and depthwise convs have
their own.
"""

from refiner.cost.latency_table import LatencyTable
from refiner.space.candidates import ORIGINAL
from refiner.space.keep_ratios import keep_ratio_of
from refiner.space.search_space import SearchSpace

LEAST_SAVED = 0.01
"""Share of a slot's time by which a narrower candidate has to be faster than the wider ones."""


def worth_offering(space: SearchSpace, table: LatencyTable, *, stairs: bool) -> list[list[int]]:
    """Return the places of the candidates of each slot that are worth offering, in order.

    The original is one of them. Candidates that are slower than it beyond the noise are not.

    Args:
        space: slots and candidates.
        table: their latencies.
        stairs: whether narrower prunings that take as long as a wider one are left out as well.
    """
    return [
        _of_slot(slot.name, names, table, stairs)
        for slot, names in zip(space.slots, space.candidates, strict=True)
    ]


def _of_slot(slot: str, names: tuple[str, ...], table: LatencyTable, stairs: bool) -> list[int]:
    kept = [k for k, name in enumerate(names) if name == ORIGINAL or not table.slower(slot, name)]
    if not stairs:
        return kept
    ratios = {k: ratio for k in kept if (ratio := keep_ratio_of(names[k])) is not None}
    times = table.slots[slot]
    fastest, needed = times[ORIGINAL].median, LEAST_SAVED * times[ORIGINAL].median
    for k in sorted(ratios, key=lambda k: -ratios[k]):
        if times[names[k]].median <= fastest - needed:
            fastest = times[names[k]].median
        else:
            kept.remove(k)
    return kept
