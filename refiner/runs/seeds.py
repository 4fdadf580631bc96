"""Several runs that differ only in their seed: means, standard deviations and one comparison."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refiner.core.errors import RunError
from refiner.cost.costs import Cost
from refiner.data.normalisation import FROM_DATA
from refiner.runs.comparison import RANDOM, UNIFORM, Baseline, comparison_over_seeds
from refiner.runs.report import Report
from refiner.runs.report_rows import after_epochs
from refiner.runs.report_sentences import images_sentence
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
    images: str = ""
    """Which images the scores are of."""
    origin: str = ""
    """The model, the data and the method, in one line."""
    found: tuple[tuple[str, str], ...] = ()
    """(seed, vector that was found) of each run."""

    @classmethod
    def of(cls, reports: Sequence[Report]) -> "SeedsReport":
        """Return the report over the reports of finished runs, one per seed.

        Baselines are compared by their scores after training or, where nothing was trained, by
        those before it or, without any, by what the search goes by.

        Raises:
            RunError: there are fewer than two runs, they differ in model or settings, or they have
                no scores.
        """
        _check(reports)
        first = reports[0]
        networks = _network_rows(reports)
        refined = networks[-1]
        baselines = _baseline_rows(reports)
        scores = {row.name: row.scores for row in baselines}
        metric = _metric(first)
        return cls(
            metric=metric,
            rows=(*networks, *baselines),
            comparison=comparison_over_seeds(metric, refined.scores, scores) if scores else None,
            images=images_sentence(first) or "",
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
            f"Mean ± standard deviation. {self.images} Settings: {self.origin}.",
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
        (_metric(first), first.before, first.trained is None)
        == (_metric(second), second.before, second.trained is None)
    ) and all(ours[name] == theirs[name] or _by_split(name, ours, theirs) for name in shared)


def _by_split(name: str, *settings: Mapping[str, str]) -> bool:
    """Return whether a setting is a scale of the training images, which differ by the seed."""
    return name == "preprocessing" and all(each[name].endswith(FROM_DATA) for each in settings)


def _metric(report: Report) -> str:
    """Return the name of the scores that networks are compared by."""
    if report.trained is None and report.refined_score is None:
        return f"{report.measure} in the search"
    return report.score_name


def _network_rows(reports: Sequence[Report]) -> list[Row]:
    """Return the rows of the original and the refined network that every run has, best known last.

    Raises:
        RunError: the refined networks have no scores.
    """
    trained = [report.trained for report in reports]
    epochs = f" {after_epochs(trained[0].epochs)}" if trained[0] else ""
    before, after = [r.before for r in reports], [r.after for r in reports]
    columns: list[tuple[str, list[Cost], list[float | None]]] = [
        ("original as given", before, [r.original_score for r in reports]),
        (f"original{epochs}", before, [t.original if t else None for t in trained]),
        ("refined before fine-tuning", after, [r.refined_score for r in reports]),
        (f"refined{epochs}", after, [t.refined if t else None for t in trained]),
    ]
    if all(score is None for _, _, scores in columns[2:] for score in scores):
        columns.append(("refined", after, [r.found for r in reports]))
    rows = [_row(name, costs, scores) for name, costs, scores in columns]
    known = [row for row in rows if row is not None]
    if not any(row.name.startswith("refined") for row in known):
        raise RunError("these runs have no scores. Give runs that searched or trained.")
    return known


def _baseline_rows(reports: Sequence[Report]) -> list[Row]:
    """Return a row for each kind of baseline that every run has."""
    rows = []
    for kind, name in _NAMES.items():
        found = [next((b for b in r.baselines if b.kind == kind), None) for r in reports]
        known = [baseline for baseline in found if baseline is not None]
        if len(known) < len(reports):
            continue
        scores = [_score_of(report, b) for report, b in zip(reports, known, strict=True)]
        row = _row(name, known, scores)
        rows += [row] if row is not None else []
    return rows


def _score_of(report: Report, baseline: Baseline) -> float | None:
    """Return the score that a baseline is compared by."""
    if report.trained is not None:
        return baseline.trained
    return report.found_of(baseline) if report.refined_score is None else baseline.score


def _row(name: str, costs: Sequence[Cost | Baseline], scores: Sequence[float | None]) -> Row | None:
    """Return a row; None where a run lacks the score."""
    known = tuple(score for score in scores if score is not None)
    if len(known) < len(scores):
        return None
    return Row(
        name=name,
        macs=tuple(cost.macs for cost in costs),
        params=tuple(cost.params for cost in costs),
        scores=known,
    )


def _spread(values: Sequence[float], form: str) -> str:
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    return form.format(mean) + (f" ± {form.format(deviation)}" if deviation else "")
