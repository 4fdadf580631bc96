"""A budget of milliseconds, kept to as measured: a prediction is off by some percent.

The finalists of a search are measured, best first and each in turn with the original, until one keeps to
the budget.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from refiner.core.errors import RunError, one_line
from refiner.cost.budget import Budget
from refiner.cost.latency import Latency, network_latencies
from refiner.runs.run_folder import RunFolder, load_or_make
from refiner.search.search import SearchResult
from refiner.space.architecture import Vector
from refiner.training.devices import Devices


def within_latency(
    found: SearchResult,
    budget: Budget,
    model: nn.Module,
    emit: Callable[[Vector], nn.Module],
    example_input: Any,
    *,
    devices: Devices,
    folder: RunFolder | None,
) -> tuple[SearchResult, list[str]]:
    """Return a search's result without the finalists that go over a budget as measured, and lines for the report.

    Where none keeps to it, the one that comes nearest is left, and a line says so. It is measured once for a
    run, by the main process, and kept in its folder.

    Args:
        found: how the search ended.
        budget: of latency.
        model: the original.
        emit: returns an architecture as a network.
        example_input: is timed.
        devices: where, and in which precision.
        folder: of the run; None for a run without.

    Raises:
        RunError: what the folder keeps is no such measurement.
    """

    def measured() -> dict[str, Any]:
        taken = []
        for finalist in found.top_k:
            before, after = network_latencies(
                [model, emit(finalist.vector)], example_input, devices=devices
            )
            limit = budget.most(before.median)
            times = {"median": after.median, "noise": after.noise, "limit": limit}
            taken.append({"vector": list(finalist.vector), **times})
            if _used(taken[-1]) <= 1:
                break
        return {"top_k": taken}

    document = load_or_make(folder, "latency_check.json", measured, devices)
    try:
        used = {tuple(each["vector"]): _used(each) for each in document["top_k"]}
        nearest = min(document["top_k"], key=_used)
        time = Latency(median=nearest["median"], noise=nearest["noise"])
        best = next(f for f in found.top_k if f.vector == tuple(nearest["vector"]))
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise RunError(
            f"latency_check.json is damaged, or of another run: {one_line(error)}. Remove it, and what it "
            "holds is measured again."
        ) from error
    over = [f for f in found.top_k if used.get(f.vector, 0.0) > 1 and f is not best]
    told = f"{time} as measured, and {budget} allows {nearest['limit']:.2f} ms, noise counted in"
    notes = []
    if _used(nearest) > 1:
        notes = [f"no finalist keeps to the budget: the one that comes nearest takes {told}"]
    elif over:
        notes = [
            f"the refined model takes {told}; finalists that go over it and are left out: {len(over)}"
        ]
    left = (best, *(f for f in found.top_k if f is not best and f not in over))
    return SearchResult(best=best, top_k=left), notes


def _used(taken: dict[str, Any]) -> float:
    """Return which share of its limit a network takes, its noise counted in."""
    return float((taken["median"] + taken["noise"]) / taken["limit"])
