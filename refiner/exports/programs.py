"""Record a model with ``torch.export``, its batch size and maybe the size of its inputs open."""

from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.batches import batch_size, doubled
from refiner.core.inputs import ExampleInput, call_arguments


def open_batch(example: ExampleInput) -> ExampleInput:
    """Return an example to record on: exporters take a size of one for a constant."""
    return doubled(example) if batch_size(example) == 1 else example


def open_dimensions(tensor: torch.Tensor, batch: int, *, any_size: bool) -> list[int]:
    """Return the dimensions of an input that stay open.

    Args:
        tensor: the input.
        batch: the batch size of the example.
        any_size: whether height, width and the like stay open, too.
    """
    dimensions = [0] if tensor.dim() and len(tensor) == batch else []
    return [*dimensions, *range(2, tensor.dim())] if any_size else dimensions


def _dynamic_shapes(example: ExampleInput, *, any_size: bool) -> tuple[Any, Any]:
    """Return the open dimensions of each positional and keyword argument."""
    size, auto = batch_size(example), torch.export.Dim.AUTO
    args, kwargs = call_arguments(example)

    def of_tensor(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return None
        return dict.fromkeys(open_dimensions(value, size, any_size=any_size), auto) or None

    def of(value: Any) -> Any:
        return pytree.tree_map(of_tensor, value)

    return tuple(map(of, args)), {key: of(value) for key, value in kwargs.items()}


def program(
    model: nn.Module, example: ExampleInput, *, dynamic: bool, any_size: bool = False
) -> Any:
    """Return the exported program of a model.

    Args:
        model: in eval mode.
        example: what it is recorded on.
        dynamic: whether the batch size stays open.
        any_size: whether height, width and the like stay open, too.
    """
    if dynamic:
        example = open_batch(example)
    args, kwargs = call_arguments(example)
    shapes: Any = None
    if dynamic:
        positional, keyword = _dynamic_shapes(example, any_size=any_size)
        shapes = keyword if kwargs else positional
    return torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
