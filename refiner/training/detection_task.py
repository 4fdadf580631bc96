"""Detection with a network of torchvision: its own losses, mAP50-95, and a teacher for raw maps.

A batch is a pair: images 3 x H x W of any sizes from 0 to 1, and for each image a mapping with
``boxes`` (M x 4: x1, y1, x2, y2 in pixels) and ``labels`` (M), as torchvision's detectors take
them. A mapping may hold more, such as ``masks``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from refiner.core.detection_batches import images_of, is_detection
from refiner.core.errors import ConfigError, DataError
from refiner.core.layers import is_conv
from refiner.core.torchvision_detectors import classes_of, detector_in, has_background
from refiner.core.types import Batch
from refiner.training.dense_maps import classes_apart, draw_classes, draw_signs, seen_by
from refiner.training.detector_maps import SIDES, RawMaps
from refiner.training.mean_precision import (
    COLUMNS,
    add_image,
    empty_counts,
    in_steps,
    mean_precision,
)

_MOST = 100
"""Detections of a class in an image that are scored, as in COCO."""
_Target = Mapping[str, torch.Tensor]


class Detection:
    """Losses of the model itself, and mAP50-95 of boxes, for detectors as torchvision has them.

    In train mode ``model(images, targets)`` gives a mapping of losses, and in eval mode
    ``model(images)`` a list of mappings with ``boxes``, ``labels`` and ``scores``. Only detectors
    of torchvision's own classes can be compared with a teacher.

    Args:
        classes: number of classes, the background included where labels count it; by default that
            of the model's head.
    """

    metric = "mAP50-95"

    def __init__(self, classes: int | None = None) -> None:
        self.classes = classes

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the sum of the model's losses, each a mean over images or boxes.

        Raises:
            ConfigError: the model gives no losses.
            DataError: the batch does not fit.
        """
        images, targets = self._images_and_targets(model, batch)
        with _giving_losses(model):
            try:
                losses: Any = model(images, targets)
            except KeyError as error:
                raise DataError(f"the targets lack {error}, which the model reads.") from error
        if not isinstance(losses, Mapping) or not losses:
            raise ConfigError(
                f"in train mode the model gives a {type(losses).__name__} and no losses. The task "
                "detection is for detectors with torchvision's interface."
            )
        return torch.stack([loss.mean() for loss in losses.values()]).sum()

    def run(self, model: nn.Module, batch: Batch) -> None:
        """Call the model on a batch, which needs no labels.

        Raises:
            ConfigError: several processes train it so.
        """
        images, detector = _images(batch), detector_in(model)
        if model.training and isinstance(model, DistributedDataParallel):
            raise ConfigError(
                "several processes cannot train a detector without labels. Start a single one, or "
                "give labels a share of the loss (--teacher-weight 0.5)."
            )
        with _in_own_precision(images):
            if detector is None or not model.training:
                model(images)
            else:  # without targets, a detector in train mode has only raw maps to give
                RawMaps(detector)(detector.transform(images)[0].tensors)

    def measure(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the counts of :mod:`refiner.training.mean_precision`, flat.

        True boxes that are marked with ``iscrowd`` are left out.
        """
        images, targets = self._images_and_targets(model, batch)
        with _in_own_precision(images):
            found: Any = model(images)
        counts = empty_counts(self._classes(model))
        for each, target in zip(found, targets, strict=True):
            add_image(counts, _surest(each), _truth(target))
        return counts.flatten().to(images[0].device if images[0].device.type != "mps" else "cpu")

    def score(self, sums: torch.Tensor) -> float:
        """Return mAP50-95 as COCO computes it, 0 to 1."""
        return mean_precision(sums.reshape(-1, COLUMNS).double().cpu(), in_steps)

    def compared_network(self, model: nn.Module) -> nn.Module:
        """Return the part of a detector that gives raw maps."""
        detector = detector_in(model)
        return model if detector is None else RawMaps(detector)

    def uncompared(self, model: nn.Module) -> list[str]:
        """Return the heads for masks and keypoints of an R-CNN: the score is that of boxes."""
        heads = [
            head
            for module in model.modules()
            if isinstance(module, GeneralizedRCNN)
            for name, head in module.roi_heads.named_children()
            if name.startswith(("mask_", "keypoint_"))
        ]
        return [
            name
            for name, module in model.named_modules()
            if any(module is head for head in heads) and any(map(is_conv, module.modules()))
        ]

    def compared(self, output: object) -> torch.Tensor:
        """Return raw maps, N x (4 + classes) x anchors.

        Raises:
            ConfigError: the model is none of torchvision's detectors.
        """
        if not isinstance(output, torch.Tensor):
            raise ConfigError(
                "only detectors of torchvision's own classes can be compared with a teacher. Go "
                "without one: --no-distill and --teacher-weight 0."
            )
        return output

    def divergence(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the divergence of raw maps from a teacher's, a scalar in nats.

        It is that of the classes of all anchors, and the squared error of the boxes where the
        teacher sees an object, over the number of anchors that see one.
        """
        (boxes, odds), (target_boxes, target_odds) = _parts(output), _parts(target)
        seen, number = seen_by(target_odds)
        apart = (boxes - target_boxes).square().mean(dim=1)
        whole = classes_apart(odds, target_odds).sum() + (seen * apart).sum()
        return whole.clamp(min=0.0) / number  # it is never negative, but for rounding

    def fisher_draw(self, output: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return ``r`` of the shape of raw maps, so that a small change ``dz`` of these costs
        ``1/2 E[(r . dz)^2]`` of a sample's agreement.
        """
        boxes, odds = _parts(output)
        seen, number = seen_by(odds)
        of_boxes = draw_signs(boxes.shape, generator).to(boxes) * (seen / SIDES).sqrt()[:, None]
        whole = torch.cat([of_boxes, draw_classes(odds, generator)], dim=1)
        return whole * (len(output) / number).sqrt()

    def _classes(self, model: nn.Module) -> int:
        classes = self.classes or classes_of(model)
        if classes is None:
            raise ConfigError(
                f"the number of classes of {type(model).__name__} cannot be found. Give it: "
                "task=refiner.Detection(classes=N)."
            )
        return classes

    def _images_and_targets(
        self, model: nn.Module, batch: Batch
    ) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
        """Return both parts of a batch, as torchvision takes them.

        Raises:
            DataError: the batch has another form, or its boxes or labels do not fit the model.
        """
        if not is_detection(batch):
            raise DataError(
                "a batch is no pair of images and targets. Give a list of images 3 x H x W and a "
                "list of mappings with boxes and labels (collate_fn=lambda b: tuple(zip(*b)))."
            )
        targets = [dict(target) for target in batch[1]]
        for target in targets:
            _check(target, self.classes or classes_of(model), has_background(model))
        return _images(batch), targets


def _images(batch: Batch) -> list[torch.Tensor]:
    images = images_of(batch)
    if images is None:
        raise DataError("a batch holds no images. Give a list of images 3 x H x W.")
    return images


def _check(target: _Target, classes: int | None, background: bool) -> None:
    """Raise a DataError for boxes or labels that torchvision cannot work with."""
    boxes, labels = target.get("boxes"), target.get("labels")
    if not isinstance(boxes, torch.Tensor) or not isinstance(labels, torch.Tensor):
        raise DataError(
            f"a target holds {', '.join(map(str, target)) or 'nothing'}. Give boxes (M x 4) and "
            "labels (M) as tensors."
        )
    if boxes.dim() != 2 or boxes.shape[1] != SIDES or labels.shape != boxes.shape[:1]:
        raise DataError(
            f"a target has boxes {tuple(boxes.shape)} and labels {tuple(labels.shape)}. Give boxes "
            "M x 4 and labels M; without an object, 0 x 4 and 0."
        )
    if not bool((boxes[:, 2:] > boxes[:, :2]).all()):
        raise DataError("a box has no area. Give x1, y1, x2, y2 in pixels with x1 < x2, y1 < y2.")
    if classes is None or not len(labels):
        return
    least = int(background)
    if not least <= int(labels.min()) <= int(labels.max()) < classes:
        first = ", since 0 is the background" if background else ""
        raise DataError(
            f"a target has labels from {int(labels.min())} to {int(labels.max())}, and the model's "
            f"run from {least} to {classes - 1}{first}. Give a model and data that fit."
        )


@contextmanager
def _giving_losses(model: nn.Module) -> Iterator[None]:
    """Let a model give losses inside; norms and dropout in it keep their mode."""
    detector = detector_in(model)
    deciding: Sequence[nn.Module] = [model] if detector is None else [detector]
    if isinstance(detector, GeneralizedRCNN):
        deciding = [detector, detector.rpn, detector.roi_heads]
    before = [module.training for module in deciding]
    try:
        for module in deciding:
            module.training = True
        yield
    finally:
        for module, training in zip(deciding, before, strict=True):
            module.training = training


def _in_own_precision(images: Sequence[torch.Tensor]) -> torch.autocast:
    """Return a context in which boxes keep their precision: bfloat16 has a grid of 4 pixels."""
    return torch.autocast(images[0].device.type, enabled=False)


def _surest(found: _Target) -> torch.Tensor:
    """Return the most confident detections of each class in an image, M x 6."""
    rows = torch.cat([found["boxes"], found["scores"][:, None], found["labels"][:, None]], dim=1)
    rows = rows[found["scores"].argsort(descending=True, stable=True)]
    return torch.cat([rows[:0], *(rows[rows[:, 5] == c][:_MOST] for c in rows[:, 5].unique())])


def _truth(target: _Target) -> torch.Tensor:
    """Return the true boxes of an image, M x 5."""
    rows = torch.cat([target["boxes"].float(), target["labels"][:, None].float()], dim=1)
    crowd = target.get("iscrowd")
    return rows if crowd is None else rows[~crowd.bool()]


def _parts(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the boxes and the log-odds of maps."""
    boxes, odds = maps.split([SIDES, maps.shape[1] - SIDES], dim=1)
    return boxes, odds
