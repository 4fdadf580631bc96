import numpy as np
import pytest
import torch

from refiner.training.mean_precision import add_image, empty_counts, mean_precision

PERFECT = 0.995
"""The average precision of a perfect detector, as ultralytics computes it."""
SQUARE, CIRCLE = [0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 40.0, 40.0]


def score(*images: tuple[list[list[float]], list[list[float]]], classes: int = 2) -> float:
    counts = empty_counts(classes)
    for found, truth in images:
        add_image(counts, torch.tensor(found).view(-1, 6), torch.tensor(truth).view(-1, 5))
    return mean_precision(counts)


def test_what_is_found_exactly_scores_most_and_nothing_scores_zero() -> None:
    truth = [[*SQUARE, 0.0], [*CIRCLE, 1.0]]
    assert score(([[*SQUARE, 0.9, 0.0], [*CIRCLE, 0.3, 1.0]], truth)) == pytest.approx(PERFECT)
    assert score(([], truth)) == 0.0
    assert score(([[*SQUARE, 0.9, 1.0], [*CIRCLE, 0.3, 0.0]], truth)) == 0.0, "of other classes"
    assert score(([], [])) == 0.0


def test_thresholds_classes_and_doubles_count() -> None:
    eight_tenths = [0.0, 0.0, 10.0, 8.0]  # an overlap of 0.8: a hit at seven thresholds of ten
    assert score(([[*eight_tenths, 0.9, 0.0]], [[*SQUARE, 0.0]])) == pytest.approx(0.7 * PERFECT)
    truth = [[*SQUARE, 0.0], [*CIRCLE, 1.0]]
    assert score(([[*SQUARE, 0.9, 0.0]], truth)) == pytest.approx(0.5 * PERFECT), "one class of two"
    sure = [[*SQUARE, 0.9, 0.0]]
    double = [*sure, [*SQUARE, 0.8, 0.0]]
    assert score((double, [[*SQUARE, 0.0]])) == pytest.approx(PERFECT), "behind the hit"
    wrong_first = [[*CIRCLE, 0.9, 0.0], [*SQUARE, 0.8, 0.0]]
    assert score((wrong_first, [[*SQUARE, 0.0]])) == pytest.approx(0.5, abs=0.01)


def test_it_is_that_of_ultralytics_within_a_bin() -> None:
    metrics = pytest.importorskip("ultralytics.utils.metrics")
    rng, counts = np.random.default_rng(0), empty_counts(3)
    hits, sure, kinds, true = [], [], [], []
    validator = pytest.importorskip("ultralytics.engine.validator").BaseValidator
    judge = validator.__new__(validator)
    judge.iouv = torch.linspace(0.5, 0.95, 10)
    for _ in range(40):
        corner = rng.uniform(0, 50, (6, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 30, (6, 2))], 1)
        labels = rng.integers(3, size=6)
        shaken = boxes + rng.normal(0, 2, boxes.shape)
        confidence = rng.uniform(size=6)
        claimed = np.where(rng.uniform(size=6) < 0.8, labels, rng.integers(3, size=6))
        found = torch.tensor(np.c_[shaken, confidence, claimed]).float()
        truth = torch.tensor(np.c_[boxes, labels]).float()
        add_image(counts, found, truth)
        found = found[found[:, 4].argsort(descending=True)]
        overlap = metrics.box_iou(truth[:, :4], found[:, :4])
        hits.append(judge.match_predictions(found[:, 5], truth[:, 4], overlap).numpy())
        sure.append(found[:, 4].numpy())
        kinds.append(found[:, 5].numpy())
        true.append(labels)
    exact = metrics.ap_per_class(*map(np.concatenate, (hits, sure, kinds, true)))[5].mean()
    assert 0.1 < exact < 0.9
    assert mean_precision(counts) == pytest.approx(exact, abs=0.003)


def test_an_overlap_of_another_kind_may_be_given() -> None:
    """In the order of the detections, as they come."""
    truth = torch.tensor([[*SQUARE, 0.0], [*CIRCLE, 0.0]])
    found = torch.tensor([[*CIRCLE, 0.3, 0.0], [*SQUARE, 0.9, 0.0]])
    half = 0.5 * PERFECT
    for overlap, expected in (
        ([[0.0, 1.0], [1.0, 0.0]], PERFECT),
        ([[0.4, 1.0], [0.2, 0.1]], half),
    ):
        counts = empty_counts(1)
        add_image(counts, found, truth, torch.tensor(overlap))
        assert mean_precision(counts) == pytest.approx(expected, abs=0.01)
