"""Make the report of a run: measure costs and latencies, and add scores and settings."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from refiner.core.batches import first_sample
from refiner.core.errors import ModelError
from refiner.core.inputs import ExampleInput
from refiner.core.models import ModelSpec
from refiner.core.preprocessing import preprocessing_of
from refiner.core.types import JsonDict
from refiner.cost.costs import measure_cost, slot_costs
from refiner.cost.deployment import Deployment
from refiner.cost.latency_table import LatencyTable
from refiner.runs.comparison import Baseline
from refiner.runs.notes import worse_for_tuning
from refiner.runs.report import Report
from refiner.runs.report_data import MeasuredLatency, SlotReport, Trained
from refiner.search.search import SearchResult
from refiner.space.architecture import Architecture
from refiner.space.search_space import SearchSpace
from refiner.training.agreement import compared_by
from refiner.training.devices import Devices
from refiner.training.task import Task


def full_report(
    model: nn.Module,
    refined: nn.Module,
    space: SearchSpace,
    architecture: Architecture,
    example: ExampleInput,
    found: SearchResult,
    task: Task,
    *,
    devices: Devices,
    scored_on: str,
    original_score: float | None,
    refined_score: float | None,
    trained: Trained | None,
    settings: JsonDict,
    baselines: Sequence[Baseline] = (),
    deployment: Deployment,
    latency: MeasuredLatency | None = None,
    latencies: LatencyTable | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Return the report of a run: costs, latencies, scores, the top-k and settings."""
    one = first_sample(example)
    report = cost_report(
        model, refined, space, architecture, one, deployment, devices=devices, latency=latency
    )
    if latencies is not None:
        note = f"latency predicted from candidates measured {latencies.conditions}"
        report = replace(
            report,
            latency_predicted=(latencies.model, latencies.predicted(architecture)),
            notes=(*report.notes, note),
        )
    return replace(
        report,
        metric=task.metric,
        scored_on=scored_on,
        original_score=original_score,
        refined_score=refined_score,
        search_score=found.best.score,
        top_k=tuple((f.vector, f.score, f.agreement) for f in found.top_k),
        compared=compared_by(task),
        trained=trained,
        baselines=tuple(baselines),
        settings=tuple((key, str(value)) for key, value in _flat(settings).items()),
        notes=(*notes, *worse_for_tuning(task.metric, refined_score, trained), *report.notes),
    )


def cost_report(
    model: nn.Module,
    refined: nn.Module,
    space: SearchSpace,
    architecture: Architecture,
    example_input: ExampleInput,
    deployment: Deployment | None = None,
    *,
    devices: Devices,
    latency: MeasuredLatency | None = None,
) -> Report:
    """Return the report of a rewrite alone: costs and latencies, no scores.

    Latencies are those of ``deployment``, by default of one sample in the default runtime, and of
    the runtimes that are shown beside it. Those of ``deployment`` are not measured where
    ``latency`` already holds them.
    With several processes, only the main one measures milliseconds; the others wait.
    """
    before, after = measure_cost(model, example_input), measure_cost(refined, example_input)
    if deployment is None:
        device, precision = devices.device, devices.precision
        deployment = Deployment.choose(example_input, device=device, precision=precision)
    latencies, failed = devices.from_main(
        lambda: _latencies(model, refined, deployment, devices, latency)
    )
    return Report(
        vector=architecture.vector,
        before=before,
        after=after,
        slots=slot_reports(space, architecture),
        frozen=space.frozen,
        latencies=latencies,
        notes=(*dict.fromkeys((*before.notes, *after.notes)), *failed, *_measured(latencies)),
    )


def _latencies(
    model: nn.Module,
    refined: nn.Module,
    deployment: Deployment,
    devices: Devices,
    known: MeasuredLatency | None,
) -> tuple[tuple[MeasuredLatency, ...], list[str]]:
    """Time both networks in each runtime; return notes on runtimes that cannot hold them."""
    measured, failed = [known] if known else [], []
    for each in deployment.beside(devices.device, devices.precision)[len(measured) :]:
        try:
            before, after = each.latencies([model, refined])
        except ModelError as error:
            failed.append(f"no latency in {each.runtime.name}: {error}")
            continue
        pair = MeasuredLatency(conditions=each.conditions, before=before, after=after)
        measured.append(pair)
    return tuple(measured), failed


def _measured(latencies: Sequence[MeasuredLatency]) -> list[str]:
    """Return notes on how latencies were measured."""
    notes = [f"latency measured {each.conditions}" for each in latencies]
    return [*notes, "± is the median distance of a pass from the median"] if notes else []


def slot_reports(space: SearchSpace, architecture: Architecture) -> tuple[SlotReport, ...]:
    """Return the report of each slot of an architecture."""
    chosen = zip(
        space.slots, architecture.operations, slot_costs(space), architecture.vector, strict=True
    )
    return tuple(
        SlotReport(
            name=slot.name,
            original=str(slot),
            operation=operation,
            before=costs[0],
            after=costs[index],
        )
        for slot, operation, costs, index in chosen
    )


def origin_settings(model: nn.Module, provenance: Mapping[str, Any] | None) -> dict[str, str]:
    """Return settings that name the model, its weights and its data.

    A provenance in another form than the command's adds nothing.
    """
    made = provenance or {}
    settings = {"model": type(model).__name__}
    with contextlib.suppress(KeyError, TypeError):
        spec = ModelSpec(**made["spec"])
        arguments = ", ".join(f"{name}={value!r}" for name, value in spec.arguments.items())
        settings["model"] = f"{spec.source}({arguments})" if arguments else spec.source
        settings["weights of the original"] = spec.weights_from()
    with contextlib.suppress(KeyError, TypeError):
        settings["data"] = str(made["command"]["data"])
    prepared = preprocessing_of(made)
    if prepared is not None:
        settings["preprocessing"] = str(prepared)
    return settings


def _flat(settings: JsonDict) -> JsonDict:
    """Return a run's settings in one level: ``search.epochs``, ``train.lr`` and so on."""
    apart = ("candidates", "distill", "refit", "search", "train", "baselines", "spent")
    search = settings["search"]
    flat = {key: value for key, value in settings.items() if key not in apart}
    flat |= {f"distill.{key}": value for key, value in (settings["distill"] or {}).items()}
    flat |= {f"refit.{key}": value for key, value in (settings["refit"] or {}).items()}
    flat |= {f"search.{key}": value for key, value in search.items() if key != "weights"}
    flat |= {f"search.{key}": value for key, value in search["weights"].items() if key != "epochs"}
    flat["search.spent"] = settings["spent"]
    return flat | {f"train.{key}": value for key, value in (settings["train"] or {}).items()}
