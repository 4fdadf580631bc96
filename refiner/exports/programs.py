"""Record a model with ``torch.export``, its batch size open."""

from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.batches import batch_size, doubled
from refiner.core.inputs import ExampleInput, call_arguments


def open_batch(example: ExampleInput) -> ExampleInput:
    """Return an example to record on: exporters take a size of one for a constant."""
    return doubled(example) if batch_size(example) == 1 else example


def _dynamic_shapes(example: ExampleInput) -> tuple[Any, Any]:
    """Return for each positional and keyword argument which dimension is the batch."""
    size, auto = batch_size(example), torch.export.Dim.AUTO
    args, kwargs = call_arguments(example)

    def of(value: Any) -> Any:
        return pytree.tree_map(
            lambda v: (
                {0: auto} if isinstance(v, torch.Tensor) and v.dim() and len(v) == size else None
            ),
            value,
        )

    return tuple(map(of, args)), {key: of(value) for key, value in kwargs.items()}


def program(model: nn.Module, example: ExampleInput, *, dynamic: bool) -> Any:
    """Return the exported program of a model; ``dynamic`` leaves the batch size open."""
    if dynamic:
        example = open_batch(example)
    args, kwargs = call_arguments(example)
    shapes: Any = None
    if dynamic:
        positional, keyword = _dynamic_shapes(example)
        shapes = keyword if kwargs else positional
    return torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
