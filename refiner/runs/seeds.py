"""Several runs that differ by their seed alone: means, standard deviations and the comparison over them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refiner.core.errors import RunError
from refiner.runs.comparison import RANDOM, UNIFORM, comparison_over_seeds
from refiner.runs.report import Report
from refiner.runs.text import markdown_table

NO_COMPARISON = "Nothing was controlled: the run was made with --no-baselines."
_NAMES = {RANDOM: "random search", UNIFORM: "uniform, the best"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of network over all seeds."""

    name: str
    macs: tuple[int, ...]
    """A number a seed, in the order of the seeds."""
    params: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedsReport:
    """What several runs found."""

    metric: str
    rows: tuple[Row, ...]
    comparison: str | None
    """None where nothing was controlled."""
    origin: str = ""
    """What was refined, on what and how."""
    found: tuple[tuple[str, str], ...] = ()
    """Of each run its seed and the vector that it found."""

    @classmethod
    def of(cls, reports: Sequence[Report]) -> "SeedsReport":
        """Return the report over the reports of finished runs, one a seed.

        Scores are those after training or, where nothing was trained, in the supernet.

        Raises:
            RunError: fewer than two, of different models or settings, or without scores.
        """
        if len(reports) < 2:
            raise RunError("a report over seeds wants two runs or more. Give --seeds 2 or more.")
        first = reports[0]
        if not all(_alike(first, report) for report in reports):
            raise RunError("these runs differ by more than their seed. Give runs of one command.")
        trained = [report.trained for report in reports]
        rows = []
        if all(each is not None and each.original is not None for each in trained):
            scores = tuple(each.original for each in trained if each and each.original is not None)
            before = [report.before for report in reports]
            rows.append(_row("original", before, scores))
        ours = [r.trained.refined if r.trained else r.search_score for r in reports]
        refined = tuple(score for score in ours if score is not None)
        if len(refined) < len(reports):
            raise RunError("these runs have no scores. Give runs that searched or trained.")
        rows.append(_row("refined", [report.after for report in reports], refined))
        baselines = {}
        for kind, name in _NAMES.items():
            found = [next((c for c in r.baselines if c.kind == kind), None) for r in reports]
            if all(found):
                chosen = [c for c in found if c is not None]
                reached = [c.search_score if c.trained is None else c.trained for c in chosen]
                baselines[name] = tuple(reached)
                rows.append(_row(name, chosen, baselines[name]))
        metric = first.metric + ("" if first.trained else " in the supernet")
        told = comparison_over_seeds(metric, refined, baselines) if baselines else None
        vectors = [",".join(map(str, report.vector)) for report in reports]
        seeds = [dict(report.settings).get("seed", "") for report in reports]
        return cls(
            metric=metric, rows=tuple(rows), comparison=told, origin=first.origin(),
            found=tuple(zip(seeds, vectors, strict=True)),
        )  # fmt: skip

    def table(self) -> list[tuple[str, str, str, str]]:
        """Return rows of (what, MACs, parameters, score), each as mean ± standard deviation."""
        return [
            (
                row.name,
                _spread(row.macs, "{:,.0f}"),
                _spread(row.params, "{:,.0f}"),
                _spread(row.scores, "{:.4f}"),
            )
            for row in self.rows
        ]

    def to_markdown(self) -> str:
        """Return the report as a Markdown page."""
        count = len(self.rows[0].scores)
        head = ("", "MACs", "parameters", self.metric)
        return "\n".join(
            (
                f"# {count} seeds",
                "",
                f"Mean ± standard deviation, of {self.origin}.",
                "",
                *markdown_table(head, self.table()),
                "",
                self.comparison or NO_COMPARISON,
                "",
                *(f"- seed {seed}: `{vector}`" for seed, vector in self.found),
                "",
            )
        )


def _alike(first: Report, second: Report) -> bool:
    """Return whether two runs may differ by their seed alone, as far as both reports tell."""
    ours, theirs = dict(first.settings), dict(second.settings)
    told = ours.keys() & theirs.keys() - {"seed", "search.spent"}
    return (
        (first.metric, first.before, first.trained is None)
        == (second.metric, second.before, second.trained is None)
    ) and all(ours[name] == theirs[name] for name in told)


def _row(name: str, costs: Sequence[Any], scores: tuple[float, ...]) -> Row:
    return Row(
        name=name,
        macs=tuple(cost.macs for cost in costs),
        params=tuple(cost.params for cost in costs),
        scores=scores,
    )


def _spread(values: Sequence[float], form: str) -> str:
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    return form.format(mean) + (f" ± {form.format(deviation)}" if deviation else "")
