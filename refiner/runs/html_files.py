"""What the files of a run's folder add to its report: the front, milliseconds and metrics."""

from dataclasses import dataclass, field

from refiner.core.types import JsonDict
from refiner.cost.latency_table import LatencyTable
from refiner.runs.drawing import Drawing
from refiner.runs.run_folder import RunFolder
from refiner.search.pareto import FORMAT_VERSION, Point, beaten_from_json, front_from_json

DRAWING = "network.json"
"""The file that holds the drawing of the original network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What a page shows beside the report; anything may be missing."""

    source: str | None = None
    """Of the model, from config.json: ``timm:resnet18``."""
    front: tuple[Point, ...] = ()
    beaten: tuple[Point, ...] = ()
    """Architectures that were scored, too, and lie behind the front."""
    original: dict[str, float] = field(default_factory=dict)
    """Costs of the original by resource, as the front has them."""
    latencies: LatencyTable | None = None
    drawing: Drawing | None = None
    """Of the original network."""
    records: tuple[JsonDict, ...] = ()
    """Lines of metrics.jsonl."""


def folder_extras(folder: RunFolder) -> Extras:
    """Return what a run's folder holds. A file that is missing, or a front of old, adds nothing.

    Raises:
        RunError: a file is damaged, or written by a newer refiner.
    """
    front: tuple[Point, ...] = ()
    beaten: tuple[Point, ...] = ()
    original: dict[str, float] = {}
    document = folder.read_json("pareto.json") if folder.holds("pareto.json") else {}
    version = document.get("format_version", 1)
    if document and not (type(version) is int and version < FORMAT_VERSION):
        front, original, _ = front_from_json(document)
        beaten = beaten_from_json(document)
    held = folder.holds("latency.json")
    table = LatencyTable.from_json(folder.read_json("latency.json")) if held else None
    return Extras(
        source=_source(folder),
        front=front,
        beaten=beaten,
        original=original,
        latencies=table,
        drawing=Drawing.from_json(folder.read_json(DRAWING)) if folder.holds(DRAWING) else None,
        records=tuple(folder.records),
    )


def _source(folder: RunFolder) -> str | None:
    """Return how the model was named on the command line; None where Python code made it."""
    here: object = folder.config()
    for name in ("provenance", "spec", "source"):
        here = here.get(name) if isinstance(here, dict) else None
    return here if isinstance(here, str) else None
