import math

import pytest
import torch

from refiner.runs.chance import at_chance, chance_of, rises
from refiner.runs.look import Look
from refiner.training.detection_task import Detection
from refiner.training.task import Classification, Regression, Segmentation


def look(score: float, count: int = 0, classes: int = 0, sums=()) -> Look:
    """Return a look at ``count`` images, the first of which are right."""
    right = torch.arange(count) < round(score * count if count else 0)
    return Look(
        score=score, images=max(count, 200), scale=None, finite_inputs=True, finite_outputs=True,
        constant=False, sums=torch.tensor(sums), classes=classes,
        labels=torch.ones(count) if classes else None, predictions=right.float() if classes else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("score", "count", "classes", "near"),
    [
        (0.10, 500, 10, True),
        (0.25, 500, 10, False),
        (0.10, 40, 10, False),  # its interval goes up to a quarter
        (0.50, 500, 2, True),
        (0.50, 60, 2, False),
        (0.70, 500, 2, False),
        (0.002, 500, 1000, True),
        (0.05, 500, 1000, False),
    ],
)
def test_an_accuracy_near_chance_is_one_that_surely_is_low(score, count, classes, near) -> None:
    assert at_chance(Classification(), look(score, count, classes)) == near


def test_the_chance_of_other_tasks() -> None:
    assert at_chance(Regression(), look(0.0))
    assert not at_chance(Regression(), look(0.01))
    blind = [25.0, 25.0, 25.0, 25.0]  # IoU of each class: 25 of 75
    assert chance_of(Segmentation(), look(0.3, sums=blind)) == pytest.approx(1 / 3)
    assert at_chance(Segmentation(), look(1 / 3, sums=blind))
    assert not at_chance(Segmentation(), look(0.5, sums=blind))
    assert chance_of(object(), look(0.5)) is None
    assert not at_chance(object(), look(0.0))


def test_a_rise_is_great_where_chance_does_not_allow_it() -> None:
    task = Classification()
    assert rises(task, look(0.3, 200, 10), look(0.5, 200, 10))
    assert not rises(task, look(0.3, 200, 10), look(0.35, 200, 10)), "too small"
    assert not rises(task, look(0.3, 40, 10), look(0.5, 40, 10)), "8 images of 40"
    assert not rises(task, look(0.5, 200, 10), look(0.3, 200, 10))
    assert rises(Regression(), look(-3.0), look(0.5))
    assert not rises(Regression(), look(-3.0), look(-0.1)), "still no better than the mean"
    assert rises(object(), look(-2.0), look(-1.0))
    assert not rises(object(), look(-2.0), look(-1.5))
    assert not rises(object(), look(0.5), look(math.nan))


def test_a_detector_that_finds_nothing_is_at_chance_and_a_trifle_is_no_rise() -> None:
    task = Detection()
    assert at_chance(task, look(0.0))
    assert not at_chance(task, look(0.01))
    assert not rises(task, look(0.0), look(0.01))
    assert rises(task, look(0.0), look(0.2))
