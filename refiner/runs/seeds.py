"""Several runs that differ only in their seed: means, standard deviations and one comparison."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from refiner.core.errors import RunError
from refiner.cost.costs import Cost
from refiner.runs.comparison import RANDOM, UNIFORM, Baseline, comparison_over_seeds
from refiner.runs.report import Report
from refiner.runs.text import comma_separated, markdown_table

NO_COMPARISON = "There are no baselines: the runs were made with --no-baselines."
_NAMES = {RANDOM: "random search", UNIFORM: "best uniform"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of network over all seeds."""

    name: str
    macs: tuple[int, ...]
    """One number per seed, in the order of the seeds; so are the other fields."""
    params: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedsReport:
    """What several runs found."""

    metric: str
    rows: tuple[Row, ...]
    comparison: str | None
    """None where the runs have no baselines."""
    origin: str = ""
    """The model, the data and the method, in one line."""
    found: tuple[tuple[str, str], ...] = ()
    """(seed, vector that was found) of each run."""

    @classmethod
    def of(cls, reports: Sequence[Report]) -> "SeedsReport":
        """Return the report over the reports of finished runs, one per seed.

        Scores are those after training or, where nothing was trained, those in the supernet.

        Raises:
            RunError: there are fewer than two runs, they differ in model or settings, or they have
                no scores.
        """
        _check(reports)
        first = reports[0]
        refined = _refined_row(reports)
        baselines = _baseline_rows(reports)
        metric = first.metric + ("" if first.trained else " in the supernet")
        scores = {row.name: row.scores for row in baselines}
        return cls(
            metric=metric,
            rows=(*_original_row(reports), refined, *baselines),
            comparison=comparison_over_seeds(metric, refined.scores, scores) if scores else None,
            origin=first.origin(),
            found=tuple(
                (dict(report.settings).get("seed", ""), comma_separated(report.vector))
                for report in reports
            ),
        )

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
        lines = (
            f"# {count} seeds",
            "",
            f"Mean ± standard deviation. Settings: {self.origin}.",
            "",
            *markdown_table(head, self.table()),
            "",
            self.comparison or NO_COMPARISON,
            "",
            *(f"- seed {seed}: `{vector}`" for seed, vector in self.found),
            "",
        )
        return "\n".join(lines)


def _check(reports: Sequence[Report]) -> None:
    """Raise a RunError unless there are two runs or more that differ only in their seed."""
    if len(reports) < 2:
        raise RunError("a report over seeds needs two runs or more. Give --seeds 2 or more.")
    if not all(_comparable(reports[0], report) for report in reports):
        raise RunError("these runs differ by more than their seed. Give runs of one command.")


def _comparable(first: Report, second: Report) -> bool:
    """Return whether two runs differ only in their seed, by the settings that both reports hold."""
    ours, theirs = dict(first.settings), dict(second.settings)
    shared = ours.keys() & theirs.keys() - {"seed", "search.spent"}
    return (
        (first.metric, first.before, first.trained is None)
        == (second.metric, second.before, second.trained is None)
    ) and all(ours[name] == theirs[name] for name in shared)


def _original_row(reports: Sequence[Report]) -> list[Row]:
    """Return the row of the original; none where a run did not train it."""
    scores = [report.trained.original if report.trained else None for report in reports]
    known = tuple(score for score in scores if score is not None)
    if len(known) < len(reports):
        return []
    return [_row("original", [report.before for report in reports], known)]


def _refined_row(reports: Sequence[Report]) -> Row:
    scores = [r.trained.refined if r.trained else r.search_score for r in reports]
    known = tuple(score for score in scores if score is not None)
    if len(known) < len(reports):
        raise RunError("these runs have no scores. Give runs that searched or trained.")
    return _row("refined", [report.after for report in reports], known)


def _baseline_rows(reports: Sequence[Report]) -> list[Row]:
    """Return a row for each kind of baseline that every run has."""
    rows = []
    for kind, name in _NAMES.items():
        found = [next((b for b in r.baselines if b.kind == kind), None) for r in reports]
        known = [baseline for baseline in found if baseline is not None]
        if len(known) == len(reports):
            scores = tuple(b.search_score if b.trained is None else b.trained for b in known)
            rows.append(_row(name, known, scores))
    return rows


def _row(name: str, costs: Sequence[Cost | Baseline], scores: tuple[float, ...]) -> Row:
    return Row(
        name=name,
        macs=tuple(cost.macs for cost in costs),
        params=tuple(cost.params for cost in costs),
        scores=scores,
    )


def _spread(values: Sequence[float], form: str) -> str:
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    return form.format(mean) + (f" ± {form.format(deviation)}" if deviation else "")
