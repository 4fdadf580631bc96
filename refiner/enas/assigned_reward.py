"""The rewards that policy gradient assigns to each candidate (equations 6 and 7), and their noise.

Of N architectures with rewards R, candidate ``k`` of a position is assigned ``sum_i 1[i chose k]
R_i / N``. Operators and skips are the same here: a skip is a position with two candidates.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refiner.core.errors import ArchitectureError, DataError, RunError, one_line
from refiner.search.strategy import Choices
from refiner.space.architecture import Vector

Arrays = list[NDArray[np.float64]]
"""Of each position, a number for each of its candidates."""


def assigned_rewards(
    vectors: Sequence[Vector], scores: Sequence[float], choices: Choices
) -> Arrays:
    """Return the reward assigned to each candidate of each position (equations 6 and 7).

    Those of the candidates of a position add up to the mean score.

    Raises:
        DataError: there is no architecture, or not one score for each.
        ArchitectureError: a vector does not fit ``choices``.
    """
    scores_N1 = _column(vectors, scores)
    return [(chosen_NK * scores_N1).mean(axis=0) for chosen_NK in _chosen(vectors, choices)]


def assigned_reward_errors(
    vectors: Sequence[Vector], scores: Sequence[float], choices: Choices
) -> Arrays:
    """Return the standard error of each assigned reward, as the mean of N independent samples.

    It is not a number where N is 1. Architectures of many updates are drawn from policies that
    differ, so give those of one update, or of few.

    Raises:
        DataError, ArchitectureError: as :func:`assigned_rewards`.
    """
    scores_N1 = _column(vectors, scores)
    count = len(scores_N1)
    if count == 1:
        return [np.full(len(names), np.nan) for names in choices]
    return [
        (chosen_NK * scores_N1).std(axis=0, ddof=1) / np.sqrt(count)
        for chosen_NK in _chosen(vectors, choices)
    ]


def sampling_frequencies(vectors: Sequence[Vector], choices: Choices) -> Arrays:
    """Return the share of the architectures that chose each candidate of each position.

    Raises:
        DataError, ArchitectureError: as :func:`assigned_rewards`.
    """
    _column(vectors, [0.0] * len(vectors))
    return [chosen_NK.mean(axis=0) for chosen_NK in _chosen(vectors, choices)]


def read_trials(metrics_jsonl: Path) -> tuple[list[Vector], list[float]]:
    """Return all architectures that a run evaluated, in order, and their scores.

    Raises:
        RunError: the file is missing, damaged, or of a run without evaluations.
    """
    try:
        records = [json.loads(line) for line in metrics_jsonl.read_text("utf-8").splitlines()]
        updates = [update for record in records for update in record.get("updates", [])]
        vectors = [tuple(vector) for update in updates for vector in update["vectors"]]
        scores = [float(score) for update in updates for score in update["scores"]]
    except FileNotFoundError:
        raise RunError(
            f"there is no file {metrics_jsonl}. Name the metrics.jsonl of a run's folder."
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{metrics_jsonl} is damaged: {one_line(error)}") from error
    if not vectors or len(vectors) != len(scores):
        raise RunError(
            f"{metrics_jsonl} has {len(vectors)} architectures and {len(scores)} scores. "
            "Name that of a run with an epoch after its warm-up."
        )
    return vectors, scores


def _column(vectors: Sequence[Vector], scores: Sequence[float]) -> NDArray[np.float64]:
    """Return the scores, N x 1."""
    if not vectors or len(vectors) != len(scores):
        raise DataError(
            f"there are {len(vectors)} architectures and {len(scores)} scores. Give one or more, "
            "and a score for each."
        )
    return np.asarray(scores, dtype=np.float64)[:, None]


def _chosen(vectors: Sequence[Vector], choices: Choices) -> Arrays:
    """Return, of each position, N x K: 1 where an architecture chose a candidate, else 0."""
    for vector in vectors:
        if len(vector) != len(choices) or any(
            not 0 <= index < len(names) for index, names in zip(vector, choices, strict=False)
        ):
            raise ArchitectureError(
                f"the vector {tuple(vector)} does not fit the {len(choices)} positions. Give the "
                "choices of the run that scored it."
            )
    index_NS = np.asarray(vectors, dtype=np.int64)
    return [np.eye(len(names))[index_NS[:, i]] for i, names in enumerate(choices)]
