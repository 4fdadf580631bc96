"""The last stage of a run: its report and its files."""

from collections.abc import Sequence
from dataclasses import replace

from refiner.core.listeners import tracker
from refiner.core.types import JsonDict
from refiner.cost.budget_check import over_budget
from refiner.runs.comparison import Baseline
from refiner.runs.costing import CostedSpace
from refiner.runs.front import points, write_front
from refiner.runs.job import Job, announce
from refiner.runs.network_scores import GIVEN, REFINED
from refiner.runs.report_data import MeasuredLatency, Trained
from refiner.runs.report_making import full_report, origin_settings
from refiner.runs.result import Result
from refiner.runs.result_files import write_result
from refiner.runs.selection import Selection
from refiner.runs.settings import Settings
from refiner.runs.tracking import report_figures
from refiner.search.scoring import Scored
from refiner.space.remembered import remember


def finish(
    job: Job,
    settings: Settings,
    costed: CostedSpace,
    selection: Selection,
    trained: Trained | None,
    baselines: Sequence[Baseline],
    latency: MeasuredLatency | None = None,
) -> Result:
    """Return the result of a run, and write its files where it has a folder.

    ``latency`` is what is known of it in the runtime of the run; None measures it.
    """
    model = selection.refined.cpu().eval()
    remember(model, job.model, selection.architecture)
    found, space = selection.found, costed.space
    origin = origin_settings(job.model, job.output.provenance)
    shown: JsonDict = {**origin, **settings.to_json(space), **job.sizes, "spent": selection.spent}
    report = full_report(
        job.model, model, space, selection.architecture, job.example, found, job.task,
        devices=job.devices, scored_on=job.scored_on,
        original_score=selection.scores.get(GIVEN), refined_score=selection.scores.get(REFINED),
        trained=trained, settings=shown, baselines=baselines,
        deployment=costed.deployment, latency=latency, latencies=costed.latencies,
        notes=selection.notes,
    )  # fmt: skip
    over = over_budget(settings.budgets, report.before, report.after, report.measured_latency)
    report = replace(report, notes=(*announce(over, job.progress), *report.notes))
    scored = [
        Scored(vector=each.vector, score=each.search_score, agreement=each.agreement)
        for each in baselines
        if (each.agreement is None) == (found.best.agreement is None)  # one measure for the front
    ]
    every_point = points(
        space, report.before, list(dict.fromkeys([*found.top_k, *scored])), costed.latencies
    )
    if job.folder is not None and job.devices.is_main:
        write_front(job.folder, every_point, report.before, report.measure, costed.latencies)
        write_result(
            job.folder, original=job.model, space=space, model=model,
            architecture=selection.architecture, report=report, example_input=job.example,
        )  # fmt: skip
    tracker(job.progress).result(report_figures(report))
    return Result(
        model=model, architecture=selection.architecture, report=report, search=found,
        example_input=job.example, points=every_point,
    )  # fmt: skip
