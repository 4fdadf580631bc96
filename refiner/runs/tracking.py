"""What a run gives its trackers: settings, the figures of an epoch, and those of the report."""

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from refiner.core.types import JsonDict
from refiner.runs.report_data import ReportData


def setting_texts(*settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings in one level, as text: ``search.epochs``, ``train.lr_max`` and so on."""
    return {name: str(value) for each in settings for name, value in _flat(each)}


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def epoch_figures(record: JsonDict) -> dict[str, float]:
    """Return the figures in a line of metrics.jsonl; scores become their mean and their best."""
    figures = {
        name: float(value)
        for name, value in record.items()
        if isinstance(value, int | float) and name != "epoch"
    }
    scores = [score for update in record.get("updates", ()) for score in update["scores"]]
    if scores:
        figures |= {"mean score": statistics.fmean(scores), "best score": max(scores)}
    return figures


def report_figures(report: ReportData) -> dict[str, float]:
    """Return costs, milliseconds and scores of the original and the refined network."""
    score, trained = report.score_name, report.trained
    pairs: dict[str, tuple[float | None, float | None]] = {
        "MACs": (report.before.macs, report.after.macs),
        "parameters": (report.before.params, report.after.params),
        f"{score} before fine-tuning": (report.original_score, report.refined_score),
    }
    for each in report.latencies:
        runtime = each.conditions.runtime.partition(" ")[0]
        pairs[f"milliseconds in {runtime}"] = (each.before.median, each.after.median)
    if trained is not None:
        pairs[score] = (trained.original, trained.refined)
        pairs |= {name: (before, after) for name, before, after in trained.tests}
    return {
        f"{network}/{name}": float(value)
        for name, pair in pairs.items()
        for network, value in zip(("original", "refined"), pair, strict=True)
        if value is not None
    }
