"""The Pareto front of a run: what its architectures cost, and the files pareto.json and .svg."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from refiner.cost.costs import Cost, slot_costs
from refiner.cost.latency_table import LatencyTable
from refiner.runs.plots import front_plot
from refiner.runs.run_folder import RunFolder
from refiner.search.pareto import Point, front, front_to_json
from refiner.search.scoring import Scored
from refiner.space.search_space import SearchSpace

Shares: TypeAlias = list[tuple[float, float]]
"""(MACs as a share of the original's, score) of architectures."""


def points(
    space: SearchSpace,
    before: Cost,
    scored: Sequence[Scored],
    latencies: LatencyTable | None = None,
) -> tuple[Point, ...]:
    """Return scored architectures with their costs; the score is what the search goes by.

    Args:
        space: of the search; it gives the cost of every candidate.
        before: cost of the original.
        scored: architectures with their scores.
        latencies: table that predicts milliseconds; without it, points have no latency.
    """
    costs = slot_costs(space)

    def point(scored: Scored) -> Point:
        swapped = [(row[k], row[0]) for row, k in zip(costs, scored.vector, strict=True)]
        return Point(
            vector=scored.vector,
            score=scored.objective,
            task_score=None if scored.agreement is None else scored.score,
            macs=before.macs + sum(new.macs - old.macs for new, old in swapped),
            params=before.params + sum(new.params - old.params for new, old in swapped),
            latency=None
            if latencies is None
            else latencies.predicted(space.architecture(scored.vector)).median,
        )

    return tuple(map(point, scored))


def macs_shares(points: Sequence[Point], before: Cost) -> tuple[Shares, Shares]:
    """Return (MACs as a share of the original's, score) of all points, and of the front's.

    This front is that of score and MACs alone, whatever else the points cost.
    """
    best = front([replace(point, latency=None) for point in points])
    shares = [[(p.macs / before.macs, p.score) for p in some] for some in (points, best)]
    return shares[0], shares[1]


def write_front(
    folder: RunFolder,
    points: Sequence[Point],
    before: Cost,
    measure: str,
    latencies: LatencyTable | None = None,
) -> None:
    """Write the front among scored architectures: pareto.json, and of score and MACs pareto.svg.

    Args:
        folder: of the run.
        points: what :func:`points` returned.
        before: cost of the original.
        measure: name of the points' scores.
        latencies: the table that the points' milliseconds came from.
    """
    original: dict[str, float] = {"macs": before.macs, "params": before.params}
    if latencies is not None:
        original["latency"] = latencies.model.median
    best = front(points)
    beaten = [point for point in points if point not in best]
    folder.write_json("pareto.json", front_to_json(best, original, measure, beaten))
    front_plot(*macs_shares(points, before), folder.path / "pareto.svg", metric=measure)
