"""A budget of milliseconds, kept to as measured: a prediction is off by some percent.

The finalists of a search are rewritten and measured, best first and each in turn with the original, until
one keeps to the budget.
"""

from typing import Any

from torch import nn

from refiner.budget import Budget
from refiner.devices import Devices
from refiner.latency import Latency, network_latencies
from refiner.rewriting import rewrite
from refiner.run_folder import RunFolder
from refiner.search import SearchResult
from refiner.space import SearchSpace


def within_latency(
    found: SearchResult,
    budget: Budget,
    model: nn.Module,
    space: SearchSpace,
    example_input: Any,
    *,
    devices: Devices,
    folder: RunFolder | None,
) -> tuple[SearchResult, list[str]]:
    """Return a search's result with the best finalist that keeps to a budget as measured, and lines for the report.

    Where none keeps to it, the one that comes nearest is the best, and a line says so. It is measured once for a
    run, by the main process, and kept in its folder.

    Args:
        found: how the search ended.
        budget: of latency.
        model: the original.
        space: what was searched.
        example_input: is timed.
        devices: where, and in which precision.
        folder: of the run; None for a run without.
    """

    def measured() -> dict[str, Any]:
        finalists = []
        for finalist in found.finalists:
            network = rewrite(model, space.architecture(finalist.vector))
            before, after = network_latencies([model, network], example_input, devices=devices)
            limit = budget.most(before.median)
            finalists.append({"median": after.median, "noise": after.noise, "limit": limit})
            if _used(finalists[-1]) <= 1:
                break
        return {"finalists": finalists}

    taken = devices.from_main(
        lambda: measured() if folder is None else folder.kept_json("latency_check.json", measured)
    )["finalists"]
    index = min(range(len(taken)), key=lambda i: _used(taken[i]))
    finalists = list(found.finalists)
    best = finalists.pop(index)
    time = Latency(median=taken[index]["median"], noise=taken[index]["noise"])
    told = f"{time} as measured, where {budget} allows {taken[index]['limit']:.2f} ms"
    if _used(taken[index]) > 1:
        notes = [f"no finalist keeps to the budget: the one that comes nearest takes {told}"]
    elif index:
        notes = [f"this finalist takes {told}; better ones, {index} of them, do not keep to it"]
    else:
        notes = []
    return SearchResult(best=best, finalists=(best, *finalists)), notes


def _used(taken: dict[str, float]) -> float:
    """Return which share of its limit a network takes, its noise counted in, so that it is kept to when measured again."""
    return (taken["median"] + taken["noise"]) / taken["limit"]
