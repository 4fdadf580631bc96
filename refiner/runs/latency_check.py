"""A latency budget, checked by measurement: a prediction is off by some percent.

The top-k architectures of a search are measured, best first and each next to the original, until
one keeps within the budget. The report shows this measurement, so that the two always agree.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from torch import nn

from refiner.core.errors import RunError, one_line
from refiner.core.records import checked_record
from refiner.core.types import JsonDict
from refiner.cost.budget import Budget
from refiner.cost.deployment import Deployment
from refiner.cost.latency import Latency
from refiner.cost.latency_table import LatencyTable
from refiner.runs.report_data import MeasuredLatency
from refiner.runs.run_folder import RunFolder, load_or_make
from refiner.runtimes.confidence import median_interval
from refiner.runtimes.timing import timed_networks
from refiner.search.search import SearchResult
from refiner.space.architecture import Vector
from refiner.training.devices import Devices

_FILE = "latency_check.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A search's result, after its top-k was held against a latency budget."""

    found: SearchResult
    latency: MeasuredLatency | None = None
    """Of the original and the best architecture; None without a latency budget."""
    table: LatencyTable | None = None
    """The latency table, corrected by what the search measured."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """One measured architecture."""

    vector: Vector
    pair: MeasuredLatency
    unsure: float
    """Milliseconds that its median may be too low by, with 95 % confidence."""

    @classmethod
    def from_json(cls, document: JsonDict) -> "_Measured":
        """Return what :func:`dataclasses.asdict` gave."""
        vector, pair = tuple(document["vector"]), MeasuredLatency.from_json(document["pair"])
        return checked_record(cls(vector=vector, pair=pair, unsure=document["unsure"]), finite=True)

    def used(self, budget: Budget) -> float:
        """Return which share of the budget it takes, noise included."""
        return (self.pair.after.median + self.unsure) / budget.most(self.pair.before.median)


def within_latency(
    found: SearchResult,
    budget: Budget,
    model: nn.Module,
    emit: Callable[[Vector], nn.Module],
    deployment: Deployment,
    *,
    devices: Devices,
    folder: RunFolder | None,
) -> Checked:
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
        return {"top_k": [asdict(e) for e in _measured(found, budget, model, emit, deployment)]}

    document = load_or_make(folder, _FILE, measured, devices)
    try:
        taken = [_Measured.from_json(each) for each in document["top_k"]]
        used = {each.vector: each.used(budget) for each in taken}
        nearest = min(taken, key=lambda each: used[each.vector])
        best = next(each for each in found.top_k if each.vector == nearest.vector)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, StopIteration) as error:
        raise RunError(
            f"{_FILE} is damaged, or belongs to another run: {one_line(error)}. Delete it to "
            "measure again."
        ) from error
    over = [each for each in found.top_k if used.get(each.vector, 0.0) > 1 and each is not best]
    kept = (best, *(each for each in found.top_k if each is not best and each not in over))
    return Checked(
        found=SearchResult(best=best, top_k=kept),
        latency=nearest.pair,
        notes=_notes(budget, within=used[nearest.vector] <= 1, left_out=len(over)),
    )


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
        taken.append(_in_turn(each.vector, deployment, model, emit(each.vector)))
        if taken[-1].used(budget) <= 1:
            break
    return taken


def _in_turn(
    vector: Vector, deployment: Deployment, model: nn.Module, network: nn.Module
) -> _Measured:
    """Time a network in turn with the original."""
    original, taken = timed_networks([model, network], deployment.batch, deployment.runtime)
    before, after = Latency.of(original), Latency.of(taken)
    interval = median_interval([new / old for new, old in zip(taken, original, strict=True)])
    assert interval is not None
    pair = MeasuredLatency(conditions=deployment.conditions, before=before, after=after)
    unsure = max(interval[1] * before.median - after.median, 0.0)
    return _Measured(vector=vector, pair=pair, unsure=unsure)


def _notes(budget: Budget, *, within: bool, left_out: int) -> tuple[str, ...]:
    if not within:
        return (
            f"no architecture of the top-k was measured to keep to {budget}, noise included; the "
            "nearest one is taken",
        )
    if left_out:
        return (f"architectures of the top-k measured to exceed {budget}, left out: {left_out}",)
    return ()
