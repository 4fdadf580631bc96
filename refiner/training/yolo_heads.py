"""What the last layer of a network of ultralytics gives, by its class."""

from typing import Any

from torch import nn

from refiner.core.errors import ConfigError
from refiner.training.yolo_boxes import BoxMaps
from refiner.training.yolo_masks import MaskMaps

_KINDS: dict[str, type[BoxMaps]] = {
    "Detect": BoxMaps,
    "v10Detect": BoxMaps,
    "Segment": MaskMaps,
    "Segment26": MaskMaps,
}


def head_of(model: nn.Module) -> Any:
    """Return the last layer of a network that detects or segments.

    Raises:
        ConfigError: the network is none of these, or is fused.
    """
    layers: Any = getattr(model, "model", None)
    head: Any = layers[-1] if isinstance(layers, nn.Sequential) else None
    if type(head).__name__ not in _KINDS:
        raise ConfigError(
            "this task is for detectors of ultralytics, which may segment, and the model is a "
            f"{type(model).__name__}. Choose another task."
        )
    if head.cv2 is None:
        raise ConfigError(
            "the network is fused, so it lacks a head that training needs. Give the checkpoint "
            "that training wrote."
        )
    return head


def maps_of(model: nn.Module) -> BoxMaps:
    """Return how the raw maps of a network are compared.

    Raises:
        ConfigError: the network does not detect, or is fused.
    """
    head = head_of(model)
    return _KINDS[type(head).__name__](head)
