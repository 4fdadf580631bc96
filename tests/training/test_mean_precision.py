import numpy as np
import pytest
import torch

from refiner.training.mean_precision import (
    THRESHOLDS,
    add_image,
    empty_counts,
    in_steps,
    mean_precision,
)

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


def random_images(count: int = 40, classes: int = 3) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return detections and true boxes of images; some are shaken, some of another class."""
    rng, images = np.random.default_rng(0), []
    for _ in range(count):
        corner = rng.uniform(0, 50, (6, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 30, (6, 2))], 1)
        labels = rng.integers(classes, size=6)
        claimed = np.where(rng.uniform(size=6) < 0.8, labels, rng.integers(classes, size=6))
        shaken = boxes + rng.normal(0, 2, boxes.shape)
        found = np.c_[shaken, rng.uniform(size=6), claimed]
        images.append((torch.tensor(found).float(), torch.tensor(np.c_[boxes, labels]).float()))
    return images


def by_coco(images: list[tuple[torch.Tensor, torch.Tensor]], classes: int = 3) -> float:
    """Return mAP50-95 as COCO defines it, in plain loops and without bins."""
    precisions = []
    for c in range(classes):
        rows = sorted(
            ((float(row[4]), i, row) for i, (found, _) in enumerate(images)
             for row in found if row[5] == c),
            key=lambda each: -each[0],
        )  # fmt: skip
        true = [truth[truth[:, 4] == c] for _, truth in images]
        for threshold in THRESHOLDS.tolist():
            free = [set(range(len(each))) for each in true]
            hits = []
            for _, i, row in rows:
                overlaps = {j: overlap(row, true[i][j]) for j in free[i]}
                best = max(overlaps, key=overlaps.get, default=None)
                hits.append(best is not None and overlaps[best] >= threshold)
                if hits[-1]:
                    free[i].discard(best)
            recall = np.cumsum(hits) / sum(map(len, true))
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            precisions += [max(precision[recall >= r], default=0.0) for r in np.linspace(0, 1, 101)]
    return float(np.mean(precisions))


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the intersection over union of two boxes."""
    low, high = torch.maximum(first[:2], second[:2]), torch.minimum(first[2:4], second[2:4])
    common = float((high - low).clamp(min=0).prod())
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (first, second)]
    return common / (sum(areas) - common)


def counts_of(images: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    counts = empty_counts(3)
    for found, truth in images:
        add_image(counts, found, truth)
    return counts


def test_in_steps_it_is_that_of_coco_within_a_bin() -> None:
    images = random_images()
    exact = by_coco(images)
    assert 0.1 < exact < 0.9
    assert mean_precision(counts_of(images), in_steps) == pytest.approx(exact, abs=0.003)


def test_in_steps_a_perfect_detector_scores_one_and_half_of_the_boxes_half() -> None:
    found, truth = [[*SQUARE, 0.9, 0.0]], [[*SQUARE, 0.0], [*CIRCLE, 0.0]]
    counts = empty_counts(2)
    add_image(counts, torch.tensor(found), torch.tensor(truth[:1]))
    assert mean_precision(counts, in_steps) == 1.0
    counts = empty_counts(2)
    add_image(counts, torch.tensor(found), torch.tensor(truth))
    assert mean_precision(counts, in_steps) == pytest.approx(51 / 101), "recalls of 0 to 0.5"
    add_image(counts, torch.zeros(0, 6), torch.tensor([[*SQUARE, 1.0]]))
    assert mean_precision(counts, in_steps) == pytest.approx(51 / 202), "nothing of a class"


def test_in_steps_it_is_that_of_torchmetrics() -> None:
    pytest.importorskip("pycocotools")
    detection = pytest.importorskip("torchmetrics.detection")
    judge, images = detection.MeanAveragePrecision(), random_images()
    for found, truth in images:
        judge.update(
            [{"boxes": found[:, :4], "scores": found[:, 4], "labels": found[:, 5].long()}],
            [{"boxes": truth[:, :4], "labels": truth[:, 4].long()}],
        )
    expected = float(judge.compute()["map"])
    assert mean_precision(counts_of(images), in_steps) == pytest.approx(expected, abs=0.003)
