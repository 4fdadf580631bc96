"""The tables and sentences of a report, as text without a format."""

from refiner.cost.costs import Cost
from refiner.runs.comparison import comparison
from refiner.runs.report_data import ReportData
from refiner.runs.text import change, comma_separated, milliseconds

SUMMARY_HEAD = ("", "original", "refined", "change")
"""Head of :func:`summary_rows`."""
BASELINE_HEAD = ("", "MACs", "parameters", "in the supernet", "trained")
"""Head of :func:`baseline_rows`."""

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


def baseline_rows(report: ReportData) -> list[tuple[str, ...]]:
    """Return rows of (what, MACs, parameters, score in the supernet, score after training)."""
    trained = None if report.trained is None else report.trained.refined
    after = report.after
    rows = [("refined", after.macs, after.params, report.search_score, trained)]
    rows += [(b.name, b.macs, b.params, b.search_score, b.trained) for b in report.baselines]
    return [
        (name, f"{macs:,}", f"{params:,}", *("" if s is None else f"{s:.4f}" for s in scores))
        for name, macs, params, *scores in rows
    ]


def baseline_comparison(report: ReportData) -> str | None:
    """Return in one sentence whether the search beat its baselines; None where there are none."""
    if not report.baselines or report.search_score is None:
        return None
    if report.trained is None:
        scores = {baseline.name: baseline.search_score for baseline in report.baselines}
        return comparison(f"{report.metric} in the supernet", report.search_score, scores)
    scores = {b.name: b.trained for b in report.baselines if b.trained is not None}
    return comparison(report.metric, report.trained.refined, scores)


def baseline_ahead(report: ReportData) -> str | None:
    """Return how to take the best baseline, where it scores above the refined network."""
    if report.trained is None:
        ours = report.search_score
        scores = [(b.search_score, b) for b in report.baselines]
    else:
        ours = report.trained.refined
        scores = [(b.trained, b) for b in report.baselines if b.trained is not None]
    best = max(scores, key=lambda pair: pair[0], default=None)
    if best is None or ours is None or best[0] <= ours:
        return None
    vector = comma_separated(best[1].vector)
    return f"To take {best[1].name} instead: refine apply DIR {vector} (DIR is this run's folder)."


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
    nats = f"{report.agreement:.4f}", f"{report.agreement:+.4f}"
    return [("agreement in the supernet (nats)", f"{0:.4f}", *nats)]


def score_rows(report: ReportData) -> list[Row]:
    """Return the rows of the scores after training; none where nothing was trained."""
    if report.trained is None:
        return []
    trained = report.trained
    epochs = "1 epoch" if trained.epochs == 1 else f"{trained.epochs} epochs"
    score = (f"{report.metric} after {epochs}", trained.original, trained.refined)
    rows = []
    for name, before, after in (score, *trained.tests):
        kept = ("", "") if before is None else (f"{before:.4f}", f"{after - before:+.4f}")
        rows.append((name, kept[0], f"{after:.4f}", kept[1]))
    return rows
