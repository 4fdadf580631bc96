"""The front of a search: the architectures that none beats in score and in every cost at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refiner.core.errors import RunError, one_line
from refiner.core.records import checked_record
from refiner.space.architecture import Vector

FORMAT_VERSION = 2
"""Of pareto.json. 2 names the measure of its scores; before that, these were the task's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """An architecture with what it scores and costs."""

    vector: Vector
    score: float
    """What the search goes by, in the supernet, on the whole validation part; higher is better."""
    task_score: float | None = None
    """The task's score there, where the search goes by agreement; no axis of the front."""
    macs: int
    params: int
    latency: float | None = None
    """Milliseconds, as predicted from the run's table of candidates; None in a run without one."""

    def costs(self) -> tuple[float, ...]:
        """Return what the front minimises; parameters are shown, but are not an axis of it."""
        known = (self.macs, self.latency)
        return tuple(float(cost) for cost in known if cost is not None)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Point":
        """Return what :func:`dataclasses.asdict` gave."""
        return cls(**{**document, "vector": tuple(document["vector"])})


def front(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points that no other beats, by their MACs.

    One point beats another if it is as good in score and in each cost, and better in one of them.
    """
    kept = [point for point in points if not any(_beats(other, point) for other in points)]
    return tuple(sorted(dict.fromkeys(kept), key=lambda p: (p.macs, p.costs(), -p.score)))


def _beats(first: Point, second: Point) -> bool:
    ours, theirs = (-first.score, *first.costs()), (-second.score, *second.costs())
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))


def spread(
    scores: Mapping[Vector, float], cost: Callable[[Vector], float], count: int
) -> list[Vector]:
    """Return at most ``count`` architectures that none beats in score and cost, from cheap to dear.

    Args:
        scores: of each architecture.
        cost: of an architecture.
        count: how many; of more, those that lie evenly in rank, the ends among them.
    """
    best: list[Vector] = []
    for vector in sorted(scores, key=lambda v: (cost(v), -scores[v], v)):
        if not best or scores[vector] > scores[best[-1]]:
            best.append(vector)
    if len(best) <= count:
        return best
    if count == 1:
        return best[-1:]
    return [best[round(i * (len(best) - 1) / (count - 1))] for i in range(count)]


def front_to_json(
    points: Sequence[Point],
    original: Mapping[str, float],
    measure: str,
    beaten: Sequence[Point] = (),
) -> dict[str, Any]:
    """Return a front as JSON types, beside what the original costs, by name.

    Args:
        points: of the front.
        original: costs.
        measure: name of the points' scores.
        beaten: points that are not on the front, to be shown with it.
    """
    return {
        "format_version": FORMAT_VERSION,
        "measure": measure,
        "original": dict(original),
        "front": [asdict(point) for point in points],
        "beaten": [asdict(point) for point in beaten],
    }


def front_from_json(document: Any) -> tuple[tuple[Point, ...], dict[str, float], str]:
    """Return the front that :func:`front_to_json` gave, what the original costs, and the measure.

    Raises:
        RunError: the document is none, or one of another version.
    """
    version = document.get("format_version", 1) if isinstance(document, dict) else FORMAT_VERSION
    if version != FORMAT_VERSION:
        raise RunError(
            f"pareto.json has format version {version!s:.40}, and this refiner reads "
            f"{FORMAT_VERSION}. Name a vector instead of --pick, or search again."
        )
    try:
        points = _points(document["front"])
        original = {name: float(cost) for name, cost in document["original"].items()}
        return points, original, str(document["measure"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"pareto.json is damaged: {one_line(error)}") from error


def beaten_from_json(document: Mapping[str, Any]) -> tuple[Point, ...]:
    """Return the points behind the front that :func:`front_to_json` gave; none in older files.

    Raises:
        RunError: the document is damaged.
    """
    try:
        return _points(document.get("beaten", ()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"pareto.json is damaged: {one_line(error)}") from error


def _points(documents: Sequence[Any]) -> tuple[Point, ...]:
    return tuple(checked_record(Point.from_json(document)) for document in documents)


def pick(points: Sequence[Point], limits: Mapping[str, float]) -> Point:
    """Return the best point of a front within limits on its costs, by name.

    Raises:
        RunError: there is none, or a limit on what the points do not tell.
    """
    for name in limits:
        if any(getattr(point, name) is None for point in points):
            raise RunError(f"this front has no {name}. Pick by macs or params.")
    within = [p for p in points if all(getattr(p, n) <= limit for n, limit in limits.items())]
    if not within:
        least = ", ".join(_shown(n, min(getattr(p, n) for p in points)) for n in limits)
        raise RunError(
            f"no architecture of this front is within that; the least: {least}. Give more."
        )
    return max(within, key=lambda p: (p.score, -p.macs))


def _shown(name: str, cost: float) -> str:
    return f"{name} {cost:.2f} ms" if name == "latency" else f"{name} {cost:,}"
