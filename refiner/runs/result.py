"""What a refinement leaves: the report of costs and scores, and the files of the rewritten model."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from safetensors.torch import save_model
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.files import put_in_place
from refiner.core.inputs import first_sample
from refiner.core.models import ModelSpec
from refiner.cost.costs import Cost, measure_cost, slot_costs
from refiner.cost.latency import conditions_of, network_latencies
from refiner.cost.latency_table import LatencyTable
from refiner.exports.exporting import export
from refiner.runs.comparison import Baseline
from refiner.runs.plots import front_plot
from refiner.runs.report import Report, Trained, slot_reports
from refiner.runs.run_folder import RunFolder
from refiner.search.pareto import Point, front, front_to_json
from refiner.search.scoring import Scored
from refiner.search.search import SearchResult
from refiner.space.architecture import Architecture
from refiner.space.search_space import SearchSpace
from refiner.training.devices import Devices
from refiner.training.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a refinement gives."""

    model: nn.Module
    """The rewritten model, on its own, with trained weights, on the CPU in eval mode."""
    architecture: Architecture
    report: Report
    search: SearchResult | None
    """None where a given architecture was trained."""
    example_input: Any

    def export(self, path: str | os.PathLike[str], format: str = "torchscript") -> str:  # noqa: A002
        """Write the model to a file that lives without refiner; see :func:`refiner.export`."""
        return export(self.model, path, self.example_input, format)


def full_report(
    model: nn.Module,
    refined: nn.Module,
    space: SearchSpace,
    architecture: Architecture,
    example: Any,
    found: SearchResult,
    task: Task,
    *,
    devices: Devices,
    trained: Trained | None,
    settings: Mapping[str, Any],
    baselines: Sequence[Baseline] = (),
    latencies: LatencyTable | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Return the report of a run: costs, latencies, top_k, scores and settings."""
    one = first_sample(example)
    report = cost_report(model, refined, space, architecture, one, devices=devices)
    if latencies is not None:
        report = replace(
            report,
            latency_predicted=(latencies.model, latencies.predicted(architecture)),
            notes=(
                *report.notes,
                f"latency predicted from candidates measured {latencies.conditions}",
            ),
        )
    apart = ("candidates", "distill", "search", "train", "baselines", "spent")
    shown = {key: value for key, value in settings.items() if key not in apart}
    shown |= {f"distill.{k}": v for k, v in (settings["distill"] or {}).items()}
    shown |= {f"search.{k}": v for k, v in settings["search"].items() if k != "weights"}
    shown |= {f"search.{k}": v for k, v in settings["search"]["weights"].items() if k != "epochs"}
    shown["search.spent"] = settings["spent"]
    shown |= {f"train.{key}": value for key, value in (settings["train"] or {}).items()}
    return replace(
        report,
        metric=task.metric,
        search_score=found.best.score,
        top_k=tuple((f.vector, f.score, f.agreement) for f in found.top_k),
        trained=trained,
        baselines=tuple(baselines),
        settings=tuple((key, str(value)) for key, value in shown.items()),
        notes=(*notes, *report.notes),
    )


def origin_settings(model: nn.Module, provenance: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what a report tells of where a model and its data came from.

    Of a provenance in another form than the command's it tells nothing.
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
    return settings


def cost_report(
    model: nn.Module,
    refined: nn.Module,
    space: SearchSpace,
    architecture: Architecture,
    example_input: Any,
    *,
    devices: Devices,
) -> Report:
    """Return the report of a rewrite alone: costs and latencies, no scores.

    Of several processes the main one alone measures milliseconds, while the others wait.
    """
    before, after = measure_cost(model, example_input), measure_cost(refined, example_input)
    (old, new), conditions = devices.from_main(
        lambda: (
            network_latencies([model, refined], example_input, devices=devices),
            conditions_of(devices, example_input),
        )
    )
    return Report(
        vector=architecture.vector,
        before=before,
        after=after,
        slots=slot_reports(space, architecture),
        frozen=space.frozen,
        latency_before=old.median,
        latency_after=new.median,
        latency_noise=(old.noise, new.noise),
        latency_batch=conditions.batch,
        notes=(
            *dict.fromkeys((*before.notes, *after.notes)),
            f"latency measured {conditions}; ± is the median distance of a pass from the median",
        ),
    )


def points(
    space: SearchSpace,
    before: Cost,
    top_k: Sequence[Scored],
    latencies: LatencyTable | None = None,
) -> tuple[Point, ...]:
    """Return scored architectures with what they cost, given what the original and its candidates do."""
    costs = slot_costs(space)

    def point(scored: Scored) -> Point:
        swapped = [(row[k], row[0]) for row, k in zip(costs, scored.vector, strict=True)]
        return Point(
            vector=scored.vector,
            score=scored.score,
            macs=before.macs + sum(new.macs - old.macs for new, old in swapped),
            params=before.params + sum(new.params - old.params for new, old in swapped),
            latency=None
            if latencies is None
            else latencies.predicted(space.architecture(scored.vector)).median,
        )

    return tuple(map(point, top_k))


def write_front(
    folder: RunFolder,
    points: Sequence[Point],
    before: Cost,
    metric: str,
    latencies: LatencyTable | None = None,
) -> None:
    """Write the front among scored architectures: pareto.json, and of score and MACs pareto.svg."""
    original: dict[str, float] = {"macs": before.macs, "params": before.params}
    if latencies is not None:
        original["latency"] = latencies.model.median
    folder.write_json("pareto.json", front_to_json(front(points), original))
    drawn = front([replace(point, latency=None) for point in points])
    front_plot(
        [(p.macs / before.macs, p.score) for p in points],
        [(p.macs / before.macs, p.score) for p in drawn],
        folder.path / "pareto.svg",
        metric=metric,
    )


def write_result(
    folder: RunFolder,
    *,
    model: nn.Module,
    architecture: Architecture,
    report: Report,
    example_input: Any,
) -> None:
    """Write a rewritten model, its architecture and its report into a folder."""
    folder.write_text("architecture.json", architecture.to_json())
    partial = folder.path / "refined.safetensors.partial"
    save_model(model, str(partial))
    put_in_place(partial, folder.path / "refined.safetensors")
    try:
        note = f"refined.ts: {export(model, folder.path / 'refined.ts', example_input)}"
    except (ModelError, OSError) as error:  # all else of a long run is worth keeping
        note = f"refined.ts is missing: {error}"
    report = replace(report, notes=(*report.notes, note))
    folder.write_json("report.json", report.to_json())
    folder.write_text("report.md", report.to_markdown())
