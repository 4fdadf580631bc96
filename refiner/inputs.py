"""Example inputs: a tensor, a tuple of them, or a dict of them, and how a model is called."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils import _pytree as pytree

ExampleInput: TypeAlias = torch.Tensor | tuple[Any, ...] | Mapping[str, Any]
"""One tensor, a tuple of positional arguments, or a mapping of keyword arguments."""


def call_arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments with which ``example`` calls a model.

    A mapping is keyword arguments, a tuple or list is positional ones, and anything else is the
    single positional argument.
    """
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, tuple | list):
        return tuple(example), {}
    return (example,), {}


def call(model: nn.Module, example: Any) -> Any:
    """Return ``model`` called with ``example``."""
    args, kwargs = call_arguments(example)
    return model(*args, **kwargs)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the tensors inside nested tuples, lists and dicts, in order."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def batch_size(example: Any) -> int:
    """Return the leading dimension of the first tensor in ``example``, or 1 if it has none."""
    for tensor in tensors_in(example):
        if tensor.dim():
            return int(tensor.shape[0])
    return 1


def first_sample(example: Any) -> Any:
    """Return ``example`` cut to its first sample: what has its batch size is cut to one."""
    size = batch_size(example)
    return pytree.tree_map(
        lambda v: v[:1] if isinstance(v, torch.Tensor) and v.dim() and len(v) == size else v,
        example,
    )


def to_json(example: Any) -> Any:
    """Return the structure, shapes and types of ``example`` as JSON types; what is no data is text."""
    if isinstance(example, torch.Tensor):
        return {"shape": list(example.shape), "dtype": str(example.dtype).removeprefix("torch.")}
    if isinstance(example, Mapping):
        return {"keywords": {str(key): to_json(value) for key, value in example.items()}}
    if isinstance(example, tuple | list):
        return [to_json(value) for value in example]
    plain = example is None or isinstance(example, bool | int | float | str)
    return {"value": example if plain else str(example)}


def from_json(document: Any) -> Any:
    """Return an example input such as :func:`to_json` described: random numbers, and zeros for integers."""
    if isinstance(document, list):
        return tuple(from_json(item) for item in document)
    if "keywords" in document:
        return {key: from_json(value) for key, value in document["keywords"].items()}
    if "value" in document:
        return document["value"]
    dtype = getattr(torch, document["dtype"])
    if not dtype.is_floating_point:
        return torch.zeros(document["shape"], dtype=dtype)
    return torch.randn(document["shape"], generator=torch.Generator().manual_seed(0)).to(dtype)


def describe(example: Any) -> str:
    """Return the shapes in ``example``, for messages: ``1x3x32x32``."""
    shapes = ["x".join(map(str, tensor.shape)) or "scalar" for tensor in tensors_in(example)]
    return ", ".join(shapes) or type(example).__name__


def to_device_of(model: nn.Module, example: Any) -> Any:
    """Return ``example`` with its tensors on the device of the model's first parameter."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return pytree.tree_map(lambda leaf: leaf.to(device) if hasattr(leaf, "to") else leaf, example)
