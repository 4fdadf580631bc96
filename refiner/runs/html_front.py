"""The Pareto front of the HTML report: its plot, and the same architectures as rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from refiner.core.errors import ConfigError
from refiner.cost.budget import parse_budgets
from refiner.runs.html_files import Extras
from refiner.runs.html_plot import Axis, Line, Mark, Plot, drawable, joined
from refiner.runs.report_data import ReportData
from refiner.runs.text import comma_separated
from refiner.space.architecture import Vector

_LEGEND = {
    "original": "original",
    "refined": "refined network",
    "front": "Pareto front",
    "baseline": "baseline",
    "beaten": "scored, behind the front",
    "budget": "budget",
    "whole": "cost of the original",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """An architecture on the plot."""

    kind: str
    """A key of the legend."""
    name: str
    vector: Vector
    macs: int
    params: int
    latency: float | None
    """Milliseconds as predicted, on the scale of the original's in pareto.json."""
    score: float | None
    task_score: float | None = None


def spots(report: ReportData, extras: Extras) -> list[Spot]:
    """Return the architectures to draw, the chosen one last, so that it lies on top.

    Of those behind the front, the ones that have a name are left out.
    """
    named = {report.vector, *(baseline.vector for baseline in report.baselines)}
    latencies = {p.vector: p.latency for p in (*extras.front, *extras.beaten)}
    own = [("beaten", p) for p in extras.beaten if p.vector not in named] + [
        ("front", p) for p in extras.front
    ]
    old, new = report.latency_predicted or (None, None)
    score = 0.0 if report.distilled else None
    if score is None and report.scored_on == "validation":
        score = report.original_score
    return [
        Spot(
            kind="original", name="original", vector=(0,) * len(report.vector),
            macs=report.before.macs, params=report.before.params,
            latency=extras.original.get("latency", old.median if old else None), score=score,
        ),
        *(
            Spot(
                kind=kind, name=_LEGEND[kind], vector=p.vector, macs=p.macs, params=p.params,
                latency=p.latency, score=p.score, task_score=p.task_score,
            )
            for kind, p in own
        ),
        *(
            Spot(
                kind="baseline", name=b.name, vector=b.vector, macs=b.macs, params=b.params,
                latency=latencies.get(b.vector), score=report.found_of(b),
                task_score=b.search_score if report.distilled else None,
            )
            for b in report.baselines
        ),
        Spot(
            kind="refined", name="refined network", vector=report.vector,
            macs=report.after.macs, params=report.after.params,
            latency=latencies.get(report.vector, new.median if new else None),
            score=report.found, task_score=report.search_score if report.distilled else None,
        ),
    ]  # fmt: skip


def front_plot(report: ReportData, extras: Extras) -> Plot | None:
    """Return the plot of scores over costs; None without a front.

    Costs are shares of the original's: of the predicted milliseconds where the run had a budget of
    them, else of the MACs.
    """
    if not extras.front:
        return None
    by_time = report.latency_predicted is not None and "latency" in extras.original
    resource = "latency" if by_time else "macs"
    original = extras.original.get(resource, 0.0)
    places = [(spot, _place(spot, resource, original)) for spot in spots(report, extras)]
    placed = [(spot, *place) for spot, place in places if place is not None]
    limit = _budget(report, resource, original)
    x = Axis.of([share for _, share, _ in placed] + [1.0] + ([] if limit is None else [limit]))
    y = Axis.of(score for _, _, score in placed)
    at = [(spot, x.across(share), y.down(score)) for spot, share, score in placed]
    front = _unbeaten([(left, top) for spot, left, top in at if spot.kind == "front"])
    upright = {"whole": 1.0} | ({} if limit is None else {"budget": limit})
    lines = [
        Line(kind=kind, start=(x.across(share), 0), end=(x.across(share), 100))
        for kind, share in upright.items()
    ]
    drawn = {spot.kind for spot, _, _ in at} | set(upright)
    return Plot(
        title=f"{report.measure} in the search over the share of {_RESOURCES[resource]}",
        x_label=f"share of the original's {_RESOURCES[resource]}",
        y_label=f"{report.measure} in the search",
        x_ticks=tuple(x.ticks(x.across, percent=True)),
        y_ticks=tuple(y.ticks(y.down)),
        lines=(*lines, *joined("front", front)),
        marks=tuple(
            Mark(kind=spot.kind, x=left, y=top, title="\n".join(_words(spot, report, extras)))
            for spot, left, top in at
        ),
        legend=tuple((kind, text) for kind, text in _LEGEND.items() if kind in drawn),
    )


_RESOURCES = {"macs": "MACs", "latency": "milliseconds, as predicted"}


def front_rows(report: ReportData, extras: Extras) -> list[tuple[str, ...]]:
    """Return what the plot shows as rows of texts, by MACs; the first is the head.

    An architecture of the front that has a name stands there by its name.
    """
    head = ("network", "MACs", "parameters", "ms, predicted", report.measure, "architecture")
    known = {spot.vector: spot for spot in spots(report, extras)}  # the last has the name
    ordered = sorted(known.values(), key=lambda spot: spot.macs)
    rows = [
        (
            spot.name, f"{spot.macs:,}", f"{spot.params:,}", _number(spot.latency, 2),
            _number(spot.score, 4), comma_separated(spot.vector),
        )
        for spot in ordered
    ]  # fmt: skip
    timed = [i for i in range(len(head)) if i != 3 or any(row[3] for row in rows)]
    return [tuple(row[i] for i in timed) for row in (head, *rows)]


def _place(spot: Spot, resource: str, original: float) -> tuple[float, float] | None:
    """Return a spot's share of the original's cost and its score; None where one is unknown."""
    cost = spot.macs if resource == "macs" else spot.latency
    share = None if cost is None or not original > 0 else drawable(cost / original)
    score = drawable(spot.score)
    return None if share is None or score is None else (share, score)


def _unbeaten(positions: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the positions that none beats in both directions of the plot, from cheap to dear.

    With a budget of milliseconds, the front may hold others, which take fewer MACs.
    """
    best: list[tuple[float, float]] = []
    for left, top in sorted(positions):
        if not best or top < best[-1][1]:
            best.append((left, top))
    return best


def _budget(report: ReportData, resource: str, original: float) -> float | None:
    """Return the budget of a resource as a share of the original's; None where there is none."""
    try:
        budgets = parse_budgets(dict(report.settings).get("budget", "none"))
    except ConfigError:  # none, or what a damaged report says
        return None
    for budget in budgets:
        if budget.resource == resource and original > 0:
            return drawable(budget.most(original) / original)
    return None


def _words(spot: Spot, report: ReportData, extras: Extras) -> Sequence[str]:
    """Return the lines that appear beside a mark."""
    original = extras.original
    lines = [spot.name, f"architecture {comma_separated(spot.vector)}"]
    for name, cost in (("macs", spot.macs), ("params", spot.params)):
        text = f"{cost:,} {'MACs' if name == 'macs' else 'parameters'}"
        lines.append(text + _of(cost, original.get(name)))
    if spot.latency is not None:
        lines.append(
            f"{spot.latency:.2f} ms, predicted{_of(spot.latency, original.get('latency'))}"
        )
    lines.append(f"{report.measure} {_number(spot.score, 4)}")
    if spot.task_score is not None:
        lines.append(f"{report.metric} {spot.task_score:.4f}")
    return lines


def _of(cost: float, original: float | None) -> str:
    return f" ({100 * cost / original:.0f} %)" if original is not None and original > 0 else ""


def _number(number: float | None, digits: int) -> str:
    return "" if number is None else f"{number:.{digits}f}"
