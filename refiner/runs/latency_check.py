"""A latency budget, checked by measurement: a prediction is off by some percent.

The top-k architectures of a search are measured, best first and each next to the original, until
one keeps within the budget.
"""

from collections.abc import Callable
from typing import TypedDict

from torch import nn

from refiner.core.errors import RunError, one_line
from refiner.core.types import JsonDict
from refiner.cost.budget import Budget
from refiner.cost.deployment import Deployment
from refiner.cost.latency import Latency
from refiner.cost.whole_latencies import WHOLE_PATIENCE
from refiner.runs.run_folder import RunFolder, load_or_make
from refiner.runtimes.confidence import median_interval
from refiner.runtimes.timing import ratio, timed_networks
from refiner.search.search import SearchResult
from refiner.space.architecture import Vector
from refiner.training.devices import Devices

_FILE = "latency_check.json"


class _Measured(TypedDict):
    """One measured architecture; times are in milliseconds."""

    vector: list[int]
    median: float
    noise: float
    """How far the median may be off."""
    limit: float
    """What the budget allows."""


def within_latency(
    found: SearchResult,
    budget: Budget,
    model: nn.Module,
    emit: Callable[[Vector], nn.Module],
    deployment: Deployment,
    *,
    devices: Devices,
    folder: RunFolder | None,
) -> tuple[SearchResult, list[str]]:
    """Return a search's result without architectures over a latency budget, and notes on them.

    Where none keeps within the budget, the nearest one is left, and a note says so. The main
    process measures once per run; the folder keeps the measurement.

    Args:
        found: result of the search.
        budget: of latency.
        model: the original.
        emit: returns an architecture as a network.
        deployment: runtime and batch.
        devices: of the run.
        folder: of the run; None for a run without one.

    Raises:
        RunError: the folder's latency_check.json is damaged.
    """

    def measured() -> JsonDict:
        return {"top_k": _measured(found, budget, model, emit, deployment)}

    document = load_or_make(folder, _FILE, measured, devices)
    try:
        used = {tuple(each["vector"]): _used(each) for each in document["top_k"]}
        nearest: _Measured = min(document["top_k"], key=_used)
        time = Latency(median=nearest["median"], noise=nearest["noise"])
        best = next(each for each in found.top_k if each.vector == tuple(nearest["vector"]))
    except (KeyError, TypeError, ValueError, ZeroDivisionError, StopIteration) as error:
        raise RunError(
            f"{_FILE} is damaged, or belongs to another run: {one_line(error)}. Delete it to "
            "measure again."
        ) from error
    over = [each for each in found.top_k if used.get(each.vector, 0.0) > 1 and each is not best]
    kept = (best, *(each for each in found.top_k if each is not best and each not in over))
    within = _used(nearest) <= 1
    notes = _notes(time, budget, nearest["limit"], within=within, left_out=len(over))
    return SearchResult(best=best, top_k=kept), notes


def _measured(
    found: SearchResult,
    budget: Budget,
    model: nn.Module,
    emit: Callable[[Vector], nn.Module],
    deployment: Deployment,
) -> list[_Measured]:
    """Measure the top-k in order, until one keeps within the budget."""
    taken: list[_Measured] = []
    for each in found.top_k:
        before, after = in_turn(deployment, model, emit(each.vector))
        times = _Measured(
            vector=list(each.vector),
            median=after.median,
            noise=after.noise,
            limit=budget.most(before.median),
        )
        taken.append(times)
        if _used(times) <= 1:
            break
    return taken


def in_turn(deployment: Deployment, model: nn.Module, network: nn.Module) -> list[Latency]:
    """Time a network in turn with the original; return the latency of the original, then its own.

    Its noise is how far its median may be off, with 95 % confidence.
    """
    networks, runtime = [model, network], deployment.runtime
    original, taken = timed_networks(networks, deployment.batch, runtime, WHOLE_PATIENCE)
    before, share = Latency.of(original), ratio(taken, original)
    interval = median_interval([new / old for new, old in zip(taken, original, strict=True)])
    assert interval is not None
    noise = (interval[1] - share) * before.median
    return [before, Latency(median=share * before.median, noise=noise)]


def _notes(
    time: Latency, budget: Budget, limit: float, *, within: bool, left_out: int
) -> list[str]:
    measured = f"{time} as measured; {budget} allows {limit:.2f} ms, noise included"
    if not within:
        return [
            f"no architecture of the top-k keeps within the budget: the nearest takes {measured}"
        ]
    if left_out:
        return [
            f"the refined model takes {measured}; architectures of the top-k over the budget, "
            f"left out: {left_out}"
        ]
    return []


def _used(taken: _Measured) -> float:
    """Return which share of its limit a network takes, noise included."""
    return float((taken["median"] + taken["noise"]) / taken["limit"])
