"""What to change where a model fails on an input: its names, its dtype or its layout."""

import inspect
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.batches import inputs_and_target
from refiner.core.contents import Nested, tensors_in
from refiner.core.errors import DataError
from refiner.core.layers import CONV_TYPES
from refiner.core.types import Batch


def advice_on_batch(model: nn.Module, batch: Batch) -> str:
    """Return the next step after a model failed on a batch, in a sentence or two.

    Args:
        model: that failed.
        batch: as a loader gives it.
    """
    try:
        found = advice_on_input(model, inputs_and_target(batch)[0])
    except DataError:  # of a task that reads its batches in its own way
        found = ""
    return found or (
        "Give inputs that fit the model, labels within its classes, and a task that reads such "
        "batches."
    )


def advice_on_input(model: nn.Module, inputs: Nested) -> str:
    """Return the same for an input alone; nothing where no usual mistake is seen."""
    if any(isinstance(leaf, np.ndarray) for leaf in pytree.tree_leaves(inputs)):
        return "The inputs are NumPy arrays. Convert them with torch.from_numpy."
    return _names(model, inputs) or _dtype(model, inputs) or _layout(model, inputs)


def _names(model: nn.Module, inputs: Nested) -> str:
    """Return what to do where a mapping names arguments that ``forward`` does not have."""
    if not isinstance(inputs, Mapping):
        return ""
    try:
        parameters = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return ""
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if takes_all or all(name in parameters for name in inputs):
        return ""
    return (
        f"The inputs are named {', '.join(map(str, inputs))}, and forward takes "
        f"{', '.join(parameters)}. Yield pairs (inputs, target), or name only what forward takes."
    )


def _dtype(model: nn.Module, inputs: Nested) -> str:
    """Return what to do where images are of another dtype than the weights."""
    weights = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    images = (t.dtype for t in tensors_in(inputs) if t.dim() > 2)
    given = next((dtype for dtype in images if dtype != weights), None)
    if given is None:
        return ""
    ours, theirs = (str(dtype).removeprefix("torch.") for dtype in (weights, given))
    scale = "" if given.is_floating_point else ", scaled as the model expects them"
    return f"The input is {theirs} and the model's weights are {ours}: give {ours} images{scale}."


def _layout(model: nn.Module, inputs: Nested) -> str:
    """Return what to do where the channels of images come last."""
    images = next((t for t in tensors_in(inputs) if t.dim() == 4), None)
    conv = next((m for m in model.modules() if isinstance(m, CONV_TYPES)), None)
    if images is None or not isinstance(conv, nn.Conv2d):
        return ""
    if images.shape[1] == conv.in_channels or images.shape[3] != conv.in_channels:
        return ""
    return (
        f"The images {'x'.join(map(str, images.shape))} seem to have their channels last. Put them "
        "second: images.permute(0, 3, 1, 2)."
    )
