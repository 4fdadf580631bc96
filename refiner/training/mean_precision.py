"""Mean average precision of a detector (mAP50-95 of COCO), from counts that add up over batches.

Average precision sorts the detections of a whole data set by their confidence. Here detections are
counted in narrow bins of confidence instead. So the counts of batches and of processes can be
added, and the result differs from the exact one by the order within a bin alone.

ultralytics and COCO read the precision between two recalls in different ways; both are here.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torchvision.ops import box_iou

THRESHOLDS = torch.linspace(0.5, 0.95, 10, dtype=torch.float64)
"""Least intersection over union of a hit."""
BINS = 1000
"""Bins of confidence, 0 to 1."""
_ROWS = 1 + len(THRESHOLDS)
"""For each bin: the number of detections, then the hits at each threshold."""
_RECALLS = np.linspace(0, 1, 101)
COLUMNS = 1 + BINS * _ROWS
"""Counts of a class."""
Average: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""Returns the average precision from recalls, hits and detections, from the surest bin on."""


def empty_counts(classes: int) -> torch.Tensor:
    """Return the counts of nothing: for each class the number of true boxes, then the bins, C x (1
    + BINS * 11), in float64.
    """
    return torch.zeros(classes, COLUMNS, dtype=torch.float64)


def add_image(
    counts: torch.Tensor,
    found: torch.Tensor,
    truth: torch.Tensor,
    overlap: torch.Tensor | None = None,
) -> None:
    """Add the detections of an image to counts.

    Args:
        counts: what :func:`empty_counts` gave, on the CPU.
        found: detections N x 6: x1, y1, x2, y2, confidence, class. Further columns are ignored.
        truth: true boxes M x 5: x1, y1, x2, y2, class.
        overlap: intersection over union of true objects and detections, M x N; by default that of
            their boxes.
    """
    found, truth = found.detach().float().cpu(), truth.detach().float().cpu()
    order = found[:, 4].argsort(descending=True, stable=True)
    if overlap is None:
        overlap = box_iou(truth[:, :4], found[:, :4])
    found, overlap = found[order], overlap.detach().float().cpu()[:, order]
    classes = truth[:, 4].long()
    counts[:, 0].index_add_(0, classes, torch.ones(len(truth), dtype=torch.float64))
    if not len(found):
        return
    hits = _hits(found, truth, overlap)
    bins = (found[:, 4].double() * BINS).long().clamp(0, BINS - 1)
    table = counts[:, 1:].view(len(counts), BINS, _ROWS)
    rows = torch.cat([torch.ones(len(found), 1, dtype=torch.float64), hits.double()], dim=1)
    table.index_put_((found[:, 5].long(), bins), rows, accumulate=True)


def _hits(found: torch.Tensor, truth: torch.Tensor, overlap: torch.Tensor) -> torch.Tensor:
    """Return which detections hit a true box that no surer one has hit, N x thresholds."""
    overlap = overlap * (truth[:, 4:5] == found[:, 5])
    hits = torch.zeros(len(found), len(THRESHOLDS), dtype=torch.bool)
    if not len(truth):
        return hits
    taken = torch.zeros(len(truth), len(THRESHOLDS), dtype=torch.bool)
    every = torch.arange(len(THRESHOLDS))
    for i in (overlap >= THRESHOLDS[0]).any(dim=0).nonzero().flatten().tolist():
        best, which = overlap[:, i, None].masked_fill(taken, 0.0).max(dim=0)
        hits[i] = best.double() >= THRESHOLDS
        taken[which, every] |= hits[i]
    return hits


def interpolated(recall: np.ndarray, hits: np.ndarray, found: np.ndarray) -> float:
    """Return the precision over 101 recalls, interpolated as ultralytics does."""
    some = found > 0
    if not some.any():
        return 0.0
    recall, precision = recall[some], hits[some] / found[some]
    recall = np.concatenate(([0.0], recall, [recall[-1]], [1.0]))
    precision = np.concatenate(([1.0], precision, [0.0], [0.0]))
    return float(np.trapezoid(np.interp(_RECALLS, recall, _envelope(precision)), _RECALLS))


def in_steps(recall: np.ndarray, hits: np.ndarray, found: np.ndarray) -> float:
    """Return the precision over 101 recalls, in steps as pycocotools does."""
    some = found > 0
    precision = np.append(_envelope(hits[some] / found[some]), 0.0)
    return float(precision[np.searchsorted(recall[some], _RECALLS)].mean())


def _envelope(precision: np.ndarray) -> np.ndarray:
    """Return the best precision at a recall or a higher one."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def mean_precision(counts: torch.Tensor, average: Average = interpolated) -> float:
    """Return the mean over thresholds and over the classes that have a true box, 0 to 1."""
    present = counts[:, 0] > 0
    if not bool(present.any()):
        return 0.0
    table = counts[present, 1:].view(-1, BINS, _ROWS).flip(1).cumsum(1).numpy()
    true = counts[present, 0].numpy()
    found = [
        average(table[c, :, 1 + t] / true[c], table[c, :, 1 + t], table[c, :, 0])
        for c in range(len(true))
        for t in range(len(THRESHOLDS))
    ]
    return float(np.mean(found))
