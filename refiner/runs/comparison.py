"""Whether a search beat its baselines, in one sentence: for one run, and over several seeds.

Without a baseline a search proves little: Li and Talwalkar, Random Search and Reproducibility for
Neural Architecture Search, 2019; Yu et al., Evaluating the Search Phase of Neural Architecture
Search, 2020.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refiner.core.errors import RunError, one_line
from refiner.core.records import checked_record
from refiner.core.types import JsonDict
from refiner.space.architecture import Vector

RANDOM, UNIFORM = "random", "uniform"
"""Kinds of baselines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """An architecture that a search has to beat; see :mod:`refiner.runs.baselines`."""

    kind: str
    """``RANDOM`` or ``UNIFORM``."""
    name: str
    """As reports show it: ``random search``, ``all depthwise3x3``."""
    vector: Vector
    macs: int
    params: int
    search_score: float
    """Score in the supernet, on the whole validation part."""
    agreement: float | None = None
    """Agreement there, which the search goes by where it is distilled."""
    score: float | None = None
    """Score before any fine-tuning, on the images of the report; None without weights for it."""
    trained: float | None = None
    """Score after the training that the refined model gets, on the images of the report."""
    validation: float | None = None
    """The same on the validation images, which a choice may be made on."""

    @classmethod
    def from_json(cls, document: JsonDict) -> "Baseline":
        """Return what :func:`dataclasses.asdict` gave."""
        return cls(**{**document, "vector": tuple(document["vector"])})


def baselines_from_json(document: JsonDict) -> list[Baseline]:
    """Return the baselines that baselines.json holds.

    Raises:
        RunError: the document is damaged.
    """
    try:
        found = [checked_record(Baseline.from_json(each)) for each in document["baselines"]]
        if not {each.kind for each in found} <= {RANDOM, UNIFORM}:
            raise ValueError("a baseline is of no known kind")
        return found
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"baselines.json is damaged: {one_line(error)}. Delete it to score them again."
        ) from error


def comparison(metric: str, refined: float, baselines: Mapping[str, float]) -> str:
    """Return in one sentence whether a refined model beat its baselines in one run.

    Args:
        metric: name of the scores.
        refined: score of the refined model.
        baselines: scores of the baselines by name, measured in the same way.
    """
    parts = [
        f"{_signed(refined - score)} against {name} ({score:.4f})"
        for name, score in baselines.items()
    ]
    ahead = sum(refined > score for score in baselines.values())
    return (
        f"In this one run the search came out ahead of {_how_many(ahead, len(baselines))}: "
        f"{metric} {refined:.4f} is {' and '.join(parts)}. One run cannot separate a small "
        "difference from chance; --seeds 3 can."
    )


def comparison_over_seeds(
    metric: str, refined: Sequence[float], baselines: Mapping[str, Sequence[float]]
) -> str:
    """Return in one sentence whether refined models beat their baselines over several seeds.

    Differences are taken seed by seed. A baseline is beaten where their mean exceeds their standard
    deviation (that of a sample).

    Args:
        metric: name of the scores.
        refined: one score per seed, two or more.
        baselines: scores of each baseline by name, in the same order of seeds.
    """
    parts, clear = [], 0
    for name, scores in baselines.items():
        differences = [ours - theirs for ours, theirs in zip(refined, scores, strict=True)]
        mean, deviation = statistics.mean(differences), statistics.stdev(differences)
        beaten = mean > deviation
        clear += beaten
        how = "beyond" if beaten else "behind by more than" if -mean > deviation else "not beyond"
        parts.append(f"{_signed(mean)} ± {deviation:.4f} against {name}, {how} one deviation")
    return (
        f"Over {len(refined)} seeds the search beat {_how_many(clear, len(baselines))} in "
        f"{metric}: {'; '.join(parts)}."
    )


def _how_many(count: int, total: int) -> str:
    if count == total:
        return "its baseline" if total == 1 else f"its {total} baselines"
    if total == 1:
        return "no baseline"
    return f"{'none' if count == 0 else count} of its {total} baselines"


def _signed(difference: float) -> str:
    return f"{round(difference, 4) + 0.0:+.4f}"  # without a minus before zero
