"""The tables of a report, as text without a format."""

from refiner.cost.costs import Cost
from refiner.runs.comparison import Baseline
from refiner.runs.report_data import ReportData
from refiner.runs.text import change, milliseconds

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
    search = () if report.found is None else (f"{report.measure} in the search",)
    return ("network", "MACs", "parameters", *search, report.score_name)


def network_rows(report: ReportData) -> list[tuple[str, ...]]:
    """Return a row for each network that was scored: costs, its figure in the search, its score.

    The scores are of the same images. What the search goes by stands once for each architecture.
    """
    before, after, trained = report.before, report.after, report.trained
    epochs = "" if trained is None else f" {after_epochs(trained.epochs)}"
    scored: list[tuple[str, Cost | Baseline, float | None, float | None]] = []
    if report.original_score is not None:
        scored.append(("original as given", before, None, report.original_score))
    if trained is not None and trained.original is not None:
        scored.append((f"original{epochs}", before, None, trained.original))
    found = report.found
    if report.refined_score is not None or (trained is None and found is not None):
        scored.append(("refined before fine-tuning", after, found, report.refined_score))
        found = None
    if trained is not None:
        scored.append((f"refined{epochs}", after, found, trained.refined))
    scored += [
        (f"{b.name}{epochs}", b, report.found_of(b), b.score if trained is None else b.trained)
        for b in report.baselines
    ]
    return [
        (
            name,
            f"{cost.macs:,}",
            f"{cost.params:,}",
            *(() if report.found is None else (_score(figure),)),
            _score(score),
        )
        for name, cost, figure, score in scored
    ]


def count_row(name: str, before: int, after: int) -> Row:
    """Return the row of a number that is counted."""
    return (name, f"{before:,}", f"{after:,}", change(before, after))


def _counters_agree(cost: Cost) -> bool:
    """Return whether thop counts what torch counts, to a thousandth."""
    return cost.thop_macs is not None and abs(cost.thop_macs - cost.macs) <= cost.macs / 1000


def _latency_rows(report: ReportData) -> list[Row]:
    """Return the rows of milliseconds: predicted and, below that, measured."""
    rows = []
    batch = f"latency, batch {report.latency_batch}"
    if report.latency_predicted is not None:
        old, new = report.latency_predicted
        fall = change(old.median, new.median)
        rows.append((f"{batch}, predicted", str(old), str(new), fall))
    before, after = report.latency_before, report.latency_after
    if before is not None and after is not None:
        noise = report.latency_noise or (None, None)
        times = milliseconds(before, noise[0]), milliseconds(after, noise[1])
        both = sum(report.latency_noise or ())
        hidden = both > 0 and abs(after - before) <= both
        fall = "within the noise" if hidden else change(before, after)
        rows.append((f"{batch}, measured", *times, fall))
    return rows


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
