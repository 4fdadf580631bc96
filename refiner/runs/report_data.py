"""The data of a report: what a refinement found, as records that go through JSON."""

from dataclasses import asdict, dataclass, fields
from typing import Self, TypeAlias

from refiner.core.errors import RunError, one_line
from refiner.core.records import checked_record
from refiner.core.types import JsonDict
from refiner.cost.costs import Cost
from refiner.cost.latency import Conditions, Latency
from refiner.graph.slots import Frozen
from refiner.runs.comparison import Baseline
from refiner.space.architecture import Vector
from refiner.training.agreement import Agreement

FORMAT_VERSION = 2
"""Version 2 names the images that scores come from; before it they were validation images."""

TEST, VALIDATION = "test", "validation"
"""Parts of the data that scores may come from."""

TopK: TypeAlias = tuple[Vector, float, float | None]
"""(vector, score, agreement) of an architecture; agreement is None without distillation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReport:
    """One slot: the original operation and the one that replaces it."""

    name: str
    original: str
    """The original operation: ``conv3x3 64->128 /2``."""
    operation: str
    """Name of the chosen candidate."""
    before: Cost
    """Cost of the original operation."""
    after: Cost
    """Cost of the chosen candidate."""

    @classmethod
    def from_json(cls, document: JsonDict) -> "SlotReport":
        """Return what :func:`dataclasses.asdict` gave."""
        costs = {name: _cost(document[name]) for name in ("before", "after")}
        return cls(**{**document, **costs})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The scores of the original and the refined network after the same training.

    They are of the images that the report names.
    """

    epochs: int
    original: float | None
    """None where only the refined network was trained."""
    refined: float
    validation: float | None = None
    """Of the refined network, on the validation images, which a choice may be made on."""
    tests: tuple[tuple[str, float | None, float], ...] = ()
    """(name, original, refined) of each further measure."""

    @classmethod
    def from_json(cls, document: JsonDict) -> "Trained":
        """Return what :func:`dataclasses.asdict` gave."""
        return cls(**{**document, "tests": tuple(tuple(row) for row in document["tests"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLatency:
    """Milliseconds of the original and of the refined network, timed in turn in one runtime."""

    conditions: Conditions
    before: Latency
    after: Latency

    @classmethod
    def from_json(cls, document: JsonDict) -> "MeasuredLatency":
        """Return what :func:`dataclasses.asdict` gave."""
        return cls(
            conditions=Conditions(**document["conditions"]),
            before=Latency(**document["before"]),
            after=Latency(**document["after"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """What a refinement found: costs, latencies and scores. It holds no text but notes."""

    vector: Vector
    before: Cost
    """Cost of the original."""
    after: Cost
    """Cost of the refined network."""
    slots: tuple[SlotReport, ...]
    frozen: tuple[Frozen, ...]
    latencies: tuple[MeasuredLatency, ...] = ()
    """As measured; first in the runtime of the run, then in those that are shown beside it."""
    latency_predicted: tuple[Latency, Latency] | None = None
    """Original and refined by the table of candidates; None without a budget of latency."""
    metric: str = "score"
    """Name of the task's score."""
    scored_on: str = VALIDATION
    """Images of all scores but those of the search: ``test``, or ``validation`` without these."""
    original_score: float | None = None
    """Score of the original as given; None where its weights were not trained before the run."""
    refined_score: float | None = None
    """Score of the refined network before any fine-tuning; None where it began untrained."""
    search_score: float | None = None
    """Score of the architecture in the supernet, on the whole validation part."""
    top_k: tuple[TopK, ...] = ()
    """The best architectures of the search on the whole validation part, best first."""
    compared: str | None = None
    """How agreement compares outputs: ``logits``, ``own`` or ``error``; None in older reports."""
    trained: Trained | None = None
    """None where nothing was trained after the search."""
    baselines: tuple[Baseline, ...] = ()
    """What the search has to beat; see :mod:`refiner.runs.baselines`."""
    settings: tuple[tuple[str, str], ...] = ()
    """Settings of the run, as text."""
    notes: tuple[str, ...] = ()

    def to_json(self) -> JsonDict:
        """Return the report as JSON types."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, document: JsonDict) -> Self:
        """Return the report that :meth:`to_json` gave.

        Raises:
            RunError: the document is not a report, or one of a newer version.
        """
        version = document.get("format_version", FORMAT_VERSION)
        if type(version) is not int or version > FORMAT_VERSION:
            raise RunError(
                f"report.json has format version {version!r:.40}, and this refiner reads up "
                f"to {FORMAT_VERSION}. Install the refiner that wrote it."
            )
        try:
            return checked_record(cls(**_values(document, {f.name for f in fields(cls)})))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"report.json is damaged: {one_line(error)}") from error

    @property
    def distilled(self) -> bool:
        """Whether the search compared architectures by their agreement with the original."""
        return any(agreement is not None for _, _, agreement in self.top_k)

    @property
    def measure(self) -> str:
        """Name of the one figure that the search, the front and ``--pick`` go by."""
        return Agreement.metric if self.distilled else self.metric

    @property
    def score_name(self) -> str:
        """Name of the scores with their images: ``test accuracy``."""
        return f"{self.scored_on} {self.metric}"

    @property
    def found(self) -> float | None:
        """The refined network's figure in the search."""
        return self.agreement if self.distilled else self.search_score

    def found_of(self, baseline: Baseline) -> float | None:
        """Return a baseline's figure in the search."""
        return baseline.agreement if self.distilled else baseline.search_score

    @property
    def measured_latency(self) -> tuple[Latency, Latency] | None:
        """Milliseconds of the original and the refined network in the runtime of the run.

        None where none were measured.
        """
        if not self.latencies:
            return None
        return self.latencies[0].before, self.latencies[0].after

    @property
    def agreement(self) -> float | None:
        """Agreement of the refined network in the supernet; the original has 0."""
        return next((found for vector, _, found in self.top_k if vector == self.vector), None)

    def origin(self) -> str:
        """Return the model, the data and the method in one line, as the settings name them."""
        settings = dict(self.settings)
        names = ("model", "weights of the original", "data", "strategy", "budget")
        return "; ".join(f"{name} {settings[name]}" for name in names if name in settings)


def _values(document: JsonDict, names: set[str]) -> JsonDict:
    """Return the fields of a report; a field that an older version did not write is left out."""
    values = {name: document[name] for name in names if name in document}
    values["before"], values["after"] = _cost(values["before"]), _cost(values["after"])
    values["slots"] = tuple(map(SlotReport.from_json, values["slots"]))
    values["frozen"] = tuple(Frozen(**each) for each in values["frozen"])
    values["trained"] = Trained.from_json(values["trained"]) if values["trained"] else None
    values["latencies"] = _latencies(document)
    if values.get("latency_predicted"):
        values["latency_predicted"] = tuple(Latency(**each) for each in values["latency_predicted"])
    values["baselines"] = tuple(map(Baseline.from_json, values.get("baselines", ())))
    values["vector"], values["notes"] = tuple(values["vector"]), tuple(values["notes"])
    values["top_k"] = tuple(
        (tuple(vector), score, *(agreement or [None]))
        for vector, score, *agreement in values["top_k"]
    )
    values["settings"] = tuple((key, value) for key, value in values["settings"])
    return values


def _latencies(document: JsonDict) -> tuple[MeasuredLatency, ...]:
    """Return the measured latencies; older reports have one pair, of eager PyTorch."""
    if "latencies" in document:
        return tuple(map(MeasuredLatency.from_json, document["latencies"]))
    medians = [document.get("latency_before"), document.get("latency_after")]
    if None in medians:
        return ()
    noises = document.get("latency_noise") or (0.0, 0.0)
    old, new = (Latency(median=m, noise=n) for m, n in zip(medians, noises, strict=True) if m)
    batch = document.get("latency_batch", 1)
    conditions = Conditions(runtime="eager", device="", batch=batch, precision="no")
    return (MeasuredLatency(conditions=conditions, before=old, after=new),)


def _cost(document: JsonDict) -> Cost:
    texts = {name: tuple(document.get(name, ())) for name in ("uncounted", "missed", "notes")}
    return Cost(**{**document, **texts})
