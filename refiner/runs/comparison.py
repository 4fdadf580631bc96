"""The comparison: whether a search beat its baselines, in one sentence, for one run and over seeds.

Without a baseline a search proves little: Li and Talwalkar, Random Search and Reproducibility for Neural
Architecture Search, 2019; Yu et al., Evaluating the Search Phase of Neural Architecture Search, 2020.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refiner.core.errors import RunError, one_line

RANDOM, UNIFORM = "random", "uniform"
"""Kinds of baselines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """An architecture that a search has to beat; see baselines.py."""

    kind: str
    """``RANDOM`` or ``UNIFORM``."""
    name: str
    """For people: ``random search``, ``all depthwise3x3``."""
    vector: tuple[int, ...]
    macs: int
    params: int
    search_score: float
    """In the supernet, on the whole validation part."""
    trained: float | None = None
    """After the same training as the refined model; None where nothing was trained."""

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Baseline":
        """Return what :func:`dataclasses.asdict` gave."""
        return cls(**{**document, "vector": tuple(document["vector"])})


def baselines_from_json(document: Any) -> list[Baseline]:
    """Return the baselines that baselines.json holds.

    Raises:
        RunError: the document is damaged.
    """
    try:
        return [Baseline.from_json(each) for each in document["baselines"]]
    except (KeyError, TypeError) as error:
        raise RunError(
            f"baselines.json is damaged: {one_line(error)}. Delete it to score them again."
        ) from error


def comparison(metric: str, refined: float, baselines: Mapping[str, float]) -> str:
    """Return in one sentence whether a refined model beat its baselines in one run.

    Args:
        metric: what the scores are.
        refined: score of the refined model.
        baselines: scores of the baselines by name, measured alike.
    """
    parts = [
        f"{_sign(refined - score)} against {name} ({score:.4f})"
        for name, score in baselines.items()
    ]
    ahead = sum(refined > score for score in baselines.values())
    return (
        f"In this one run the search came out ahead of {_how_many(ahead, len(baselines))}: {metric} "
        f"{refined:.4f} is {' and '.join(parts)}. One run cannot tell a small difference from chance; "
        "--seeds 3 can."
    )


def comparison_over_seeds(
    metric: str, refined: Sequence[float], baselines: Mapping[str, Sequence[float]]
) -> str:
    """Return in one sentence whether refined models beat their baselines beyond one standard deviation.

    Differences are taken seed by seed, and their own standard deviation (of a sample) is what they are
    held against.

    Args:
        metric: what the scores are.
        refined: a score a seed, two or more.
        baselines: scores of each baseline by name, in the same order of seeds.
    """
    parts, clear = [], 0
    for name, scores in baselines.items():
        differences = [ours - theirs for ours, theirs in zip(refined, scores, strict=True)]
        mean, deviation = statistics.mean(differences), statistics.stdev(differences)
        beaten = mean > deviation
        clear += beaten
        how = "beyond" if beaten else "behind by more than" if -mean > deviation else "not beyond"
        parts.append(f"{_sign(mean)} ± {deviation:.4f} against {name}, {how} one deviation")
    return (
        f"Over {len(refined)} seeds the search beat {_how_many(clear, len(baselines))} in {metric}: "
        f"{'; '.join(parts)}."
    )


def _how_many(count: int, of: int) -> str:
    if count == of:
        return "its baseline" if of == 1 else f"its {of} baselines"
    return f"{'none' if count == 0 else count} of its {of} baselines" if of > 1 else "no baseline"


def _sign(difference: float) -> str:
    return f"{round(difference, 4) + 0.0:+.4f}"  # without a minus before zero
