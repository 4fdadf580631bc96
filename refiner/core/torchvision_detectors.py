"""Detectors of torchvision: which models are, and how many classes they tell apart."""

from typing import Any

from torch import nn
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.ssd import SSD

ONE_STAGE = (RetinaNet, FCOS, SSD)
"""Detectors with a head on the maps of the backbone."""


def detector_in(model: nn.Module) -> Any:
    """Return the detector that a model is, or that it holds; None without any."""
    kinds = (*ONE_STAGE, GeneralizedRCNN)
    return next((module for module in model.modules() if isinstance(module, kinds)), None)


def classes_of(model: nn.Module) -> int | None:
    """Return the number of a detector's classes; None where the model does not tell.

    Where one class is the background, as in an SSD and an R-CNN, it counts as class 0.
    """
    detector = detector_in(model)
    if detector is None:
        return None
    if isinstance(detector, GeneralizedRCNN):
        predictor = getattr(detector.roi_heads, "box_predictor", None)
        found = getattr(getattr(predictor, "cls_score", None), "out_features", None)
    else:
        head = getattr(detector.head, "classification_head", None)
        found = getattr(head, "num_columns" if isinstance(detector, SSD) else "num_classes", None)
    return found if type(found) is int else None


def has_background(model: nn.Module) -> bool:
    """Return whether class 0 of a detector is the background."""
    return isinstance(detector_in(model), SSD | GeneralizedRCNN)
