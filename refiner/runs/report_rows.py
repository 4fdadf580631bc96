"""The tables of a report, as text without a format."""

from refiner.cost.costs import Cost
from refiner.runs.comparison import Baseline
from refiner.runs.report_data import MeasuredLatency, ReportData
from refiner.runs.text import change

SUMMARY_HEAD = ("", "original", "refined", "change")
"""Head of :func:`summary_rows`."""

Row = tuple[str, str, str, str]


def summary_rows(report: ReportData) -> list[Row]:
    """Return rows of (what, original, refined, change)."""
    before, after = report.before, report.after
    rows = [
        count_row("MACs", before.macs, after.macs),
        count_row("parameters", before.params, after.params),
    ]
    if _counters_agree(before) and _counters_agree(after):  # else a note gives the difference
        rows.append(count_row("MACs by thop", before.thop_macs or 0, after.thop_macs or 0))
    return [*rows, *_latency_rows(report), *agreement_rows(report), *score_rows(report)]


def network_head(report: ReportData) -> tuple[str, ...]:
    """Return the head of :func:`network_rows`."""
    return ("network", "MACs", "parameters", *(name for name, _ in _score_columns(report)))


def network_rows(report: ReportData) -> list[tuple[str, ...]]:
    """Return a row for each network that was scored: its costs, figure in the search, and scores.

    The scores are of the same images. Before fine-tuning, the original is scored as given.
    """
    baselines = report.baselines
    networks: list[tuple[str, Cost | Baseline]] = [
        ("original", report.before),
        ("refined", report.after),
        *((each.name, each) for each in baselines),
    ]
    columns = [scores for _, scores in _score_columns(report)]
    return [
        (name, f"{cost.macs:,}", f"{cost.params:,}", *map(_score, scores))
        for (name, cost), *scores in zip(networks, *columns, strict=True)
        if any(score is not None for score in scores)
    ]


def _score_columns(report: ReportData) -> list[tuple[str, list[float | None]]]:
    """Return the scores of the original, the refined network and the baselines, by their heads."""
    baselines, trained = report.baselines, report.trained
    columns: list[tuple[str, list[float | None]]] = [
        (
            f"{report.measure} in the search",
            [None, report.found, *map(report.found_of, baselines)],
        ),
        (
            f"{report.score_name} before fine-tuning",
            [report.original_score, report.refined_score, *(each.score for each in baselines)],
        ),
    ]
    if trained is not None:
        scores = [trained.original, trained.refined, *(each.trained for each in baselines)]
        columns.append((f"{report.score_name} {after_epochs(trained.epochs)}", scores))
    return [(name, scores) for name, scores in columns if scores[1] is not None]


def count_row(name: str, before: int, after: int) -> Row:
    """Return the row of a number that is counted."""
    return (name, f"{before:,}", f"{after:,}", change(before, after))


def _counters_agree(cost: Cost) -> bool:
    """Return whether thop counts what torch counts, to a thousandth."""
    return cost.thop_macs is not None and abs(cost.thop_macs - cost.macs) <= cost.macs / 1000


def _latency_rows(report: ReportData) -> list[Row]:
    """Return the rows of milliseconds: predicted and, below that, measured in each runtime."""
    rows = []
    if report.latency_predicted is not None and report.latencies:
        old, new = report.latency_predicted
        name = f"{_latency_name(report.latencies[0])}, predicted"
        rows.append((name, str(old), str(new), change(old.median, new.median)))
    for each in report.latencies:
        before, after = each.before, each.after
        both = before.noise + after.noise
        hidden = both > 0 and abs(after.median - before.median) <= both
        fall = "within the noise" if hidden else change(before.median, after.median)
        rows.append((_latency_name(each), str(before), str(after), fall))
    return rows


def _latency_name(measured: MeasuredLatency) -> str:
    """Return what a pair of latencies is: ``latency in onnxruntime, batch 1``."""
    runtime = measured.conditions.runtime.partition(" ")[0]
    return f"latency in {runtime}, batch {measured.conditions.batch}"


def agreement_rows(report: ReportData) -> list[Row]:
    """Return the row of agreement with the original; none without distillation."""
    if report.agreement is None:
        return []
    figures = f"{0:.4f}", f"{report.agreement:.4f}", f"{report.agreement:+.4f}"
    return [("agreement in the search", *figures)]


def score_rows(report: ReportData) -> list[Row]:
    """Return the rows of the scores before and after fine-tuning, as far as there are any."""
    scores: list[tuple[str, float | None, float | None]] = []
    if report.refined_score is not None:
        name = f"{report.score_name} before fine-tuning"
        scores.append((name, report.original_score, report.refined_score))
    if report.trained is not None:
        name = f"{report.score_name} {after_epochs(report.trained.epochs)}"
        scores.append((name, report.trained.original, report.trained.refined))
        scores += report.trained.tests
    return [
        (name, _score(before), _score(after), _difference(before, after))
        for name, before, after in scores
    ]


def after_epochs(epochs: int) -> str:
    """Return for a score how long its network was fine-tuned: ``after 5 epochs``."""
    return "after 1 epoch" if epochs == 1 else f"after {epochs} epochs"


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}"


def _difference(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{after - before:+.4f}"
