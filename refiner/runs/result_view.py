"""A result as a few lines of text, and as HTML for notebooks."""

from collections.abc import Sequence
from html import escape

from refiner.core.errors import ConfigError
from refiner.runs.front import macs_shares
from refiner.runs.plots import front_svg
from refiner.runs.report_data import ReportData
from refiner.runs.report_rows import (
    SUMMARY_HEAD,
    agreement_rows,
    count_row,
    score_rows,
    summary_rows,
)
from refiner.runs.report_sentences import images_sentence, score_sentences
from refiner.runs.text import comma_separated
from refiner.search.pareto import Point

_CELL = "text-align:right;padding:2px 10px"
_FIRST = "text-align:left;padding:2px 10px 2px 0"


def as_text(model: str, report: ReportData) -> str:
    """Return a few lines: the class ``model``, the vector, and how MACs and scores changed."""
    rows = [count_row("MACs", report.before.macs, report.after.macs)]
    rows += [*agreement_rows(report), *score_rows(report)]
    lines = [f"Result: {model}, {_architecture(report)}"]
    for name, before, after, changed in rows:
        lines.append(
            f"  {name}: {before} -> {after} ({changed})" if before else f"  {name}: {after}"
        )
    if report.trained is None and report.refined_score is None and report.search_score is not None:
        lines.append(f"  validation {report.metric} in the search: {report.search_score:.4f}")
    images = images_sentence(report)
    lines += [f"  {images}"] if images else []
    return "\n".join(lines)


def as_html(model: str, report: ReportData, points: Sequence[Point]) -> str:
    """Return an HTML fragment: a table of costs and scores, the vector, and the Pareto front.

    Args:
        model: name of the model's class.
        report: of the refinement.
        points: every architecture that was scored; without any, no front is drawn.
    """
    parts = [
        "<div>",
        f"<p><b>{escape(model)}</b>, {escape(_architecture(report))}</p>",
        _table(SUMMARY_HEAD, summary_rows(report)),
        *(f"<p>{escape(sentence)}</p>" for sentence in score_sentences(report)),
        _front(report, points),
        "</div>",
    ]
    return "\n".join(part for part in parts if part)


def _architecture(report: ReportData) -> str:
    replaced = sum(index != 0 for index in report.vector)
    slots = f"{replaced} of {len(report.vector)} slots replaced"
    return f"architecture {comma_separated(report.vector)} ({slots})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<table>", f"<thead>{_row('th', head)}</thead>", "<tbody>"]
    return "\n".join([*lines, *(_row("td", row) for row in rows), "</tbody>", "</table>"])


def _row(tag: str, cells: Sequence[str]) -> str:
    styles = (_FIRST, *(_CELL for _ in cells[1:]))
    row = zip(styles, cells, strict=True)
    return (
        "<tr>"
        + "".join(f'<{tag} style="{style}">{escape(cell)}</{tag}>' for style, cell in row)
        + "</tr>"
    )


def _front(report: ReportData, points: Sequence[Point]) -> str:
    """Return the Pareto front as inline SVG; nothing without points or without matplotlib."""
    if not points:
        return ""
    try:
        return front_svg(*macs_shares(points, report.before), metric=report.measure)
    except ConfigError:  # a result is worth showing without its plot
        return ""
