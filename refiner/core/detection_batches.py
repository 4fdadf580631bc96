"""Batches of object detection in torchvision's form: images of any sizes, and a mapping for each.

A batch is a pair of two lists or tuples. The first holds images C x H x W, and the second a mapping
for each image, with ``boxes`` and ``labels``. Images of one size may be stacked.
"""

from collections.abc import Mapping

import torch

from refiner.core.contents import Nested
from refiner.core.types import Batch


def is_detection(batch: Batch) -> bool:
    """Return whether a batch has this form."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        return False
    images, targets = batch
    return (
        _holds_images(images)
        and isinstance(targets, tuple | list)
        and len(targets) == len(images)
        and all(isinstance(target, Mapping) for target in targets)
    )


def images_of(batch: Batch) -> list[torch.Tensor] | None:
    """Return the images of a batch, C x H x W each; None where it holds no list of images.

    Without targets, a batch is the images alone, or a pair or a tuple of one with them.
    """
    if _holds_images(batch) and not isinstance(batch, tuple):
        return list(batch)
    if isinstance(batch, tuple | list) and len(batch) in (1, 2) and _holds_images(batch[0]):
        return list(batch[0])
    return list(batch) if _holds_images(batch) else None


def _holds_images(value: Nested) -> bool:
    if isinstance(value, torch.Tensor):
        return value.dim() == 4
    return (
        isinstance(value, tuple | list)
        and bool(value)
        and all(isinstance(image, torch.Tensor) and image.dim() == 3 for image in value)
    )
