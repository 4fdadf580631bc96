"""The report of a refinement: costs before and after, slot by slot, and scores."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from refiner.core.errors import RunError, one_line
from refiner.cost.costs import Cost, slot_costs
from refiner.cost.latency import Latency
from refiner.graph.slots import Frozen
from refiner.runs.comparison import Baseline, comparison
from refiner.space.architecture import Architecture
from refiner.space.search_space import SearchSpace

FORMAT_VERSION = 1
BASELINE_HEAD = ("", "MACs", "parameters", "in the supernet", "trained")
"""Of :meth:`Report.baseline_rows`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReport:
    """One slot: what was there and what was put in its place."""

    name: str
    original: str
    """The operation as it came: ``conv3x3 64->128 /2``."""
    operation: str
    """Name of the chosen candidate."""
    before: Cost
    after: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The scores of the two networks after the same training."""

    epochs: int
    original: float | None
    """None where the refined network alone was trained."""
    refined: float
    tests: tuple[tuple[str, float | None, float], ...] = ()
    """(name, original, refined) of each further measure."""

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Trained":
        """Return what :func:`dataclasses.asdict` gave."""
        return cls(**{**document, "tests": tuple(tuple(row) for row in document["tests"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a refinement found, for people (Markdown) and machines (JSON)."""

    vector: tuple[int, ...]
    before: Cost
    after: Cost
    slots: tuple[SlotReport, ...]
    frozen: tuple[Frozen, ...]
    latency_before: float | None = None
    """Milliseconds of one forward pass of the example input's batch."""
    latency_after: float | None = None
    latency_noise: tuple[float, float] | None = None
    """Median distances of a round from these two; None in reports that were written without."""
    latency_predicted: tuple[Latency, Latency] | None = None
    """Of original and refined, by the table that kept a budget of latency; None without such a budget."""
    latency_batch: int = 1
    metric: str = "score"
    search_score: float | None = None
    """Of the architecture in the supernet, on the whole validation part."""
    top_k: tuple[tuple[tuple[int, ...], float, float | None], ...] = ()
    """(vector, that score, agreement to the original) of each architecture that was scored so, best first; agreement is
    what a distilled search compares by, and None of others."""
    trained: Trained | None = None
    baselines: tuple[Baseline, ...] = ()
    """What the search has to beat; see baselines.py."""
    settings: tuple[tuple[str, str], ...] = ()
    """What the run was made with, for people."""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Report":
        """Return the report that :meth:`to_json` gave.

        Raises:
            RunError: the document is none.
        """
        try:
            # What has a default may have come after the version that wrote the file.
            values = {f.name: document[f.name] for f in fields(cls) if f.name in document}
            values["before"], values["after"] = _cost(values["before"]), _cost(values["after"])
            values["slots"] = tuple(
                SlotReport(**{**s, "before": _cost(s["before"]), "after": _cost(s["after"])})
                for s in values["slots"]
            )
            values["frozen"] = tuple(Frozen(**f) for f in values["frozen"])
            values["trained"] = Trained.from_json(values["trained"]) if values["trained"] else None
            if values.get("latency_noise"):
                values["latency_noise"] = tuple(values["latency_noise"])
            if values.get("latency_predicted"):
                predicted = values["latency_predicted"]
                values["latency_predicted"] = tuple(Latency(**each) for each in predicted)
            values["baselines"] = tuple(map(Baseline.from_json, values.get("baselines", ())))
            values["vector"], values["notes"] = tuple(values["vector"]), tuple(values["notes"])
            values["top_k"] = tuple(
                (tuple(v), score, *(rest or [None])) for v, score, *rest in values["top_k"]
            )
            values["settings"] = tuple((k, v) for k, v in values["settings"])
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"report.json is damaged: {one_line(error)}") from error

    def summary(self) -> list[tuple[str, str, str, str]]:
        """Return rows of (what, original, refined, change)."""
        rows = [
            ("MACs", f"{self.before.macs:,}", f"{self.after.macs:,}",
             change(self.before.macs, self.after.macs)),
            ("parameters", f"{self.before.params:,}", f"{self.after.params:,}",
             change(self.before.params, self.after.params)),
        ]  # fmt: skip
        ours, refined = self.before, self.after
        if _agrees(ours) and _agrees(refined):  # else a note tells the difference
            rows.append(
                ("MACs by thop", f"{ours.thop_macs:,}", f"{refined.thop_macs:,}",
                 change(ours.thop_macs or 0, refined.thop_macs or 0))
            )  # fmt: skip
        rows += self._latencies()
        if self.trained is not None:
            epochs = "1 epoch" if self.trained.epochs == 1 else f"{self.trained.epochs} epochs"
            scores = (f"{self.metric} after {epochs}", self.trained.original, self.trained.refined)
            for name, before, after in (scores, *self.trained.tests):
                kept = ("", "") if before is None else (f"{before:.4f}", f"{after - before:+.4f}")
                rows.append((name, kept[0], f"{after:.4f}", kept[1]))
        return rows

    def comparison(self) -> str | None:
        """Return in one sentence whether the search beat its baselines; None where there are none."""
        if not self.baselines or self.search_score is None:
            return None
        if self.trained is None:
            scores = {baseline.name: baseline.search_score for baseline in self.baselines}
            return comparison(f"{self.metric} in the supernet", self.search_score, scores)
        scores = {c.name: c.trained for c in self.baselines if c.trained is not None}
        return comparison(self.metric, self.trained.refined, scores)

    def baseline_ahead(self) -> str | None:
        """Return how to take the best baseline, where one came out ahead of the refined model."""
        if self.trained is None:
            ours = self.search_score
            scores = [(c.search_score, c) for c in self.baselines]
        else:
            ours = self.trained.refined
            scores = [(c.trained, c) for c in self.baselines if c.trained is not None]
        best = max(scores, key=lambda pair: pair[0], default=None)
        if best is None or ours is None or best[0] <= ours:
            return None
        vector = ",".join(map(str, best[1].vector))
        return (
            f"To take {best[1].name} instead: refine apply DIR {vector} (DIR is this run's folder)."
        )

    def baseline_rows(self) -> list[tuple[str, ...]]:
        """Return rows of (what, MACs, parameters, score in the supernet, after training)."""
        trained = None if self.trained is None else self.trained.refined
        rows = [("refined", self.after.macs, self.after.params, self.search_score, trained)]
        rows += [(c.name, c.macs, c.params, c.search_score, c.trained) for c in self.baselines]
        return [
            (name, f"{macs:,}", f"{params:,}", *("" if s is None else f"{s:.4f}" for s in scores))
            for name, macs, params, *scores in rows
        ]

    def _latencies(self) -> list[tuple[str, str, str, str]]:
        """Return the rows of milliseconds: as predicted and, below that, as measured in the end."""
        rows = []
        if self.latency_predicted is not None:
            old, new = self.latency_predicted
            rows.append(
                (f"latency, batch {self.latency_batch}, predicted", str(old), str(new),
                 change(old.median, new.median))
            )  # fmt: skip
        if self.latency_before is not None and self.latency_after is not None:
            noise = self.latency_noise or (None, None)
            rows.append(
                (f"latency, batch {self.latency_batch}, measured",
                 milliseconds(self.latency_before, noise[0]),
                 milliseconds(self.latency_after, noise[1]),
                 self._measured_change())
            )  # fmt: skip
        return rows

    def _measured_change(self) -> str:
        """Return the change of the milliseconds, unless both measurements may have met the same."""
        assert self.latency_before is not None
        assert self.latency_after is not None
        noise = sum(self.latency_noise or ())
        if noise and abs(self.latency_after - self.latency_before) <= noise:
            return "within the noise"
        return change(self.latency_before, self.latency_after)

    def origin(self) -> str:
        """Return in a line what was refined, on what and how, as far as the settings tell."""
        settings = dict(self.settings)
        names = ("model", "weights of the original", "data", "strategy", "budget")
        told = [f"{name} {settings[name]}" for name in names if name in settings]
        return "; ".join(told)

    def to_markdown(self) -> str:
        """Return the report as a Markdown page."""
        replaced = sum(index != 0 for index in self.vector)
        lines = [
            "# Refinement report",
            "",
            *([f"Of {self.origin()}.", ""] if self.settings else []),
            f"Architecture `{','.join(map(str, self.vector))}`: "
            f"{replaced} of {len(self.vector)} slots replaced.",
            "",
            *markdown_table(("", "original", "refined", "change"), self.summary()),
            "",
        ]
        if self.baselines:
            lines += ["## Baselines", ""]
            lines += [
                f"{self.comparison()} Random search was told as many scores; all keep to the budgets"
                + (" (of milliseconds, as predicted)." if self.latency_predicted else "."),
                "",
            ]
            ahead = self.baseline_ahead()
            lines += [ahead, ""] if ahead else []
            lines += markdown_table(BASELINE_HEAD, self.baseline_rows())
            lines += [
                "",
                *(f"- {c.name}: `{','.join(map(str, c.vector))}`" for c in self.baselines),
            ]
            lines += [""]
        if self.search_score is not None:
            lines += [
                f"In the supernet (on the shared weights, before any training of its own) it has {self.metric} "
                f"{self.search_score:.4f}.",
                "",
            ]
        if self.top_k:
            lines += ["## Finalists", ""]
            alike = [agreement for _, _, agreement in self.top_k if agreement is not None]
            by = "agreement to the original" if alike else self.metric
            lines += [
                f"Scored in the supernet on the whole validation part; the first was taken, by {by}"
                + (" and milliseconds as measured." if self.latency_predicted else "."),
                "",
            ]
            lines += markdown_table(
                ("architecture", self.metric, *(["agreement"] if alike else [])),
                [
                    (",".join(map(str, v)), *(f"{n:.4f}" for n in numbers if n is not None))
                    for v, *numbers in self.top_k
                ],
            )
            lines += [""]
        lines += ["## Slots", ""]
        lines += markdown_table(
            ("slot", "original", "operation", "MACs", "parameters"),
            [
                (s.name, s.original, s.operation, f"{s.before.macs:,} -> {s.after.macs:,}",
                 f"{s.before.params:,} -> {s.after.params:,}")
                for s in self.slots
            ],
        )  # fmt: skip
        lines += ["", "## Frozen convs", ""]
        lines += markdown_table(("conv", "reason"), [(f.name, f.reason) for f in self.frozen])
        lines += ["", "## Counting", ""]
        lines += [
            "One MAC is one multiply-accumulate of one forward pass of one sample, by torch's "
            "counter. Not counted in the original: "
            + (", ".join(self.before.uncounted) or "nothing")
            + ".",
        ]
        lines += [f"- {note}" for note in self.notes]
        if self.settings:
            lines += ["", "## Settings", "", *markdown_table(("setting", "value"), self.settings)]
        return "\n".join(lines) + "\n"


def milliseconds(median: float, noise: float | None) -> str:
    """Return a time for people, with its noise where that was measured."""
    return f"{median:.2f} ms" if noise is None else str(Latency(median=median, noise=noise))


def _agrees(cost: Cost) -> bool:
    """Return whether thop counts what torch counts, to a thousandth."""
    return cost.thop_macs is not None and abs(cost.thop_macs - cost.macs) <= cost.macs / 1000


def _cost(document: dict[str, Any]) -> Cost:
    return Cost(
        **{**document, "uncounted": tuple(document["uncounted"]), "notes": tuple(document["notes"])}
    )


def markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def change(before: float, after: float) -> str:
    """Return the relative change in percent: ``-19.7 %``."""
    return f"{100 * (after / before - 1):+.1f} %" if before else "n/a"


def slot_reports(space: SearchSpace, architecture: Architecture) -> tuple[SlotReport, ...]:
    """Return the report of each slot of an architecture."""
    return tuple(
        SlotReport(
            name=slot.name,
            original=str(slot),
            operation=operation,
            before=costs[0],
            after=costs[index],
        )
        for slot, operation, costs, index in zip(
            space.slots,
            architecture.operations,
            slot_costs(space),
            architecture.vector,
            strict=True,
        )
    )
