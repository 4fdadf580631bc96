"""The head of the HTML report: what was refined, and three figures that say how it went."""

from dataclasses import dataclass

from refiner.cost.latency import Latency
from refiner.runs.report_data import ReportData
from refiner.runs.report_rows import after_epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A large figure with what it means."""

    value: str
    label: str
    detail: str


def heading(report: ReportData, source: str | None) -> str:
    """Return what was refined in a few words: ``timm:resnet18``, or a file without its folders."""
    named = dict(report.settings).get("model") or source
    return named.rpartition("/")[2] if named else "Refined network"


def figures(report: ReportData) -> list[Figure]:
    """Return what is left of the cost, and how the refined network scores.

    The first is of milliseconds where the run had a budget of them, else of MACs. A report without
    a score says how many slots were replaced.
    """
    before, after = report.before, report.after
    cost = _latency(report) or _count("MACs", before.macs, after.macs)
    score = _score(report) or _replaced(report)
    return [cost, _count("parameters", before.params, after.params), score]


def share(part: float, whole: float) -> str:
    """Return a part in whole percent: ``58 %``."""
    return f"{100 * part / whole:.0f} %" if whole > 0 else "n/a"


def _count(name: str, before: int, after: int) -> Figure:
    return Figure(
        value=share(after, before), label=f"of the {name}", detail=f"{after:,} of {before:,}"
    )


def _latency(report: ReportData) -> Figure | None:
    measured = report.measured_latency
    if report.latency_predicted is None or measured is None:
        return None
    old, new = measured
    conditions = report.latencies[0].conditions
    runtime = conditions.runtime.partition(" ")[0]
    return Figure(
        value=share(new.median, old.median),
        label="of the milliseconds",
        detail=f"{_ms(new)} of {_ms(old)} ms in {runtime}, batch {conditions.batch}",
    )


def _ms(latency: Latency) -> str:
    return f"{latency.median:.2f}"


def _score(report: ReportData) -> Figure | None:
    """Return the last score of the refined network; None where nothing was scored."""
    if report.trained is not None:
        when = after_epochs(report.trained.epochs)
        pair = report.trained.original, report.trained.refined
    elif report.refined_score is not None:
        when, pair = "before fine-tuning", (report.original_score, report.refined_score)
    elif report.found is not None:
        original = 0.0 if report.distilled else None
        return _scored(f"{report.measure} in the search", original, report.found)
    else:
        return None
    return _scored(f"{report.score_name} {when}", *pair)


def _scored(label: str, original: float | None, refined: float) -> Figure:
    detail = "no score of the original"
    if original is not None:
        detail = f"original {original:.4f}, difference {refined - original:+.4f}"
    return Figure(value=f"{refined:.4f}", label=label, detail=detail)


def _replaced(report: ReportData) -> Figure:
    replaced, slots = sum(index != 0 for index in report.vector), len(report.vector)
    return Figure(
        value=f"{replaced} of {slots}", label="slots replaced", detail="no network was scored"
    )
