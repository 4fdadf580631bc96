"""What a score says: whether it is near that of guessing, and whether another is much higher."""

import math

import torch
from scipy.stats import beta

from refiner.runs.look import Look
from refiner.training.detection_task import Detection
from refiner.training.task import Regression, Segmentation, Task
from refiner.training.yolo_task import YoloDetection

GAIN = 0.1
"""Least rise of an accuracy, a mean IoU or an R2 that is called great."""
_DEVIATIONS = 4.0
"""Standard deviations of the sign test that a rise of accuracy needs."""


def chance_of(task: Task, look: Look) -> float | None:
    """Return the score of guessing; None where the task does not tell."""
    if look.classes:
        return 1 / look.classes
    if isinstance(task, Regression | Detection | YoloDetection):
        return 0.0
    if isinstance(task, Segmentation):
        return _chance_iou(look.sums)
    return None


def at_chance(task: Task, look: Look) -> bool:
    """Return whether a score is near that of guessing.

    An accuracy is, if the upper end of its 99 % interval (Clopper and Pearson, 1934) is below
    twice that of guessing, or for few classes a fifth of the way from there to 1.
    """
    chance = chance_of(task, look)
    if chance is None:
        return False
    hits = look.hits
    if hits is None:
        return look.score <= chance + (0.02 if isinstance(task, Segmentation) else 0.0)
    limit = min(chance + 0.2 * (1 - chance), max(2 * chance, 0.03))
    right, count = int(hits.sum()), len(hits)
    upper = 1.0 if right == count else float(beta.ppf(0.99, right + 1, count - right))
    return upper < limit


def _chance_iou(sums: torch.Tensor) -> float:
    """Return the mean IoU of predictions with the same shares that do not depend on the image."""
    classes = math.isqrt(len(sums))
    confusion = sums.reshape(classes, classes) / sums.sum()
    labels, guesses = confusion.sum(1), confusion.sum(0)
    hit = labels * guesses
    union = labels + guesses - hit
    return float((hit / union)[union > 0].mean())


def rises(task: Task, before: Look, after: Look) -> bool:
    """Return whether a score rises greatly: by a tenth and above chance, or by half of it.

    An accuracy has to rise by four standard deviations of the sign test as well.
    """
    if not math.isfinite(after.score) or after.score <= before.score:
        return False
    gain = after.score - before.score
    old, new = before.hits, after.hits
    if old is not None and new is not None:
        won, lost = int((new & ~old).sum()), int((old & ~new).sum())
        return gain >= GAIN and won - lost > _DEVIATIONS * math.sqrt(won + lost)
    chance = chance_of(task, after)
    if chance is not None:
        return gain >= GAIN and after.score >= chance + GAIN
    return gain >= 0.5 * max(abs(after.score), abs(before.score))
