"""Look into nested values: their tensors, their parts, their shapes, and their JSON form."""

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.errors import DataError, one_line
from refiner.core.types import JsonDict

Nested: TypeAlias = Any
"""Tensors, plain values and objects, in any nesting of tuples, lists and mappings."""

PLAIN_TYPES = (
    bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout,
    torch.memory_format, type(Ellipsis),
)  # fmt: skip
"""Types of values that are constants in a recorded graph."""
_MOST = 1 << 28
"""Numbers in a tensor of an example input that a document may ask for."""
_DEPTH = 4
"""Most steps from a value to a part that :func:`contents` looks into."""

Step: TypeAlias = tuple[Callable[[Nested, Nested], Nested], Nested]
"""A function (``getattr`` or ``operator.getitem``) and the name or the key that it takes."""


def tensors_in(value: Nested) -> list[torch.Tensor]:
    """Return the tensors inside nested tuples, lists and dicts, in order."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def contents(
    value: Nested, steps: tuple[Step, ...] = ()
) -> Iterator[tuple[tuple[Step, ...], Nested]]:
    """Yield the parts of a value, each with the steps that lead to it.

    Parts are tensors, plain values, and objects of the model's own classes. Such an object comes
    before its attributes.
    """
    if isinstance(value, (torch.Tensor, *PLAIN_TYPES)) or len(steps) > _DEPTH:
        yield steps, value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from contents(item, (*steps, (operator.getitem, i)))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from contents(item, (*steps, (operator.getitem, key)))
    else:
        yield steps, value
        if (
            hasattr(value, "__dict__")
            and not isinstance(value, nn.Module | type)
            and not callable(value)
        ):
            for name, item in vars(value).items():
                yield from contents(item, (*steps, (getattr, name)))


def describe(example: Nested) -> str:
    """Return the shapes in ``example``, for messages: ``1x3x32x32``."""
    shapes = ["x".join(map(str, tensor.shape)) or "scalar" for tensor in tensors_in(example)]
    return ", ".join(shapes) or type(example).__name__


def to_json(example: Nested) -> JsonDict | list[Nested]:
    """Return the structure, shapes and types of ``example`` as JSON types.

    A value that JSON cannot hold becomes text.
    """
    if isinstance(example, torch.Tensor):
        return {"shape": list(example.shape), "dtype": str(example.dtype).removeprefix("torch.")}
    if isinstance(example, Mapping):
        return {"keywords": {str(key): to_json(value) for key, value in example.items()}}
    if isinstance(example, tuple):
        return [to_json(value) for value in example]
    if isinstance(example, list):
        return {"samples": [to_json(value) for value in example]}
    plain = example is None or isinstance(example, bool | int | float | str)
    return {"value": example if plain else str(example)}


def from_json(document: JsonDict | list[Nested]) -> Nested:
    """Return an example input of the structure that :func:`to_json` wrote.

    Floating-point tensors hold random numbers of a fixed seed, all other tensors zeros.

    Raises:
        DataError: the document is none, or asks for more than 2**28 numbers.
    """
    try:
        return _example(document)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, MemoryError) as error:
        raise DataError(
            f"the example input is written wrongly: {one_line(error, 100)}. Begin a new run."
        ) from error


def _example(document: JsonDict | list[Nested]) -> Nested:
    if isinstance(document, list):
        return tuple(_example(item) for item in document)
    if "samples" in document:
        return [_example(item) for item in document["samples"]]
    if "keywords" in document:
        return {key: _example(value) for key, value in document["keywords"].items()}
    if "value" in document:
        return document["value"]
    dtype, shape = getattr(torch, document["dtype"]), document["shape"]
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{document['dtype']} is not a type of numbers")
    if not all(type(size) is int and size >= 0 for size in shape) or math.prod(shape) > _MOST:
        raise ValueError(f"the shape is {shape!r:.60}")
    if not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
