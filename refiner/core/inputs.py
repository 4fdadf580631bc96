"""Example inputs, and how a model is called with them.

A tensor is the only argument. A tuple holds positional arguments, a mapping keyword arguments. An
argument that is a list is a batch of samples, as in torchvision's detection models.
"""

import inspect
from collections.abc import Mapping
from typing import TypeAlias, TypeVar

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.contents import Nested
from refiner.core.errors import ModelError
from refiner.core.types import Output

ExampleInput: TypeAlias = torch.Tensor | tuple[Nested, ...] | Mapping[str, Nested]
"""One tensor, a tuple of positional arguments, or a mapping of keyword arguments."""

_Example = TypeVar("_Example")


def call_arguments(example: Nested) -> tuple[tuple[Nested, ...], dict[str, Nested]]:
    """Return the positional and the keyword arguments with which ``example`` calls a model.

    A mapping holds keyword arguments and a tuple positional ones. Anything else is the single
    positional argument.
    """
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, tuple):
        return example, {}
    return (example,), {}


def bind(model: nn.Module, example: Nested) -> tuple[dict[str, Nested], dict[str, Nested]]:
    """Return the positional and the keyword arguments of ``forward``, by parameter name, in order.

    Raises:
        ModelError: ``forward`` does not take these arguments.
    """
    args, kwargs = call_arguments(example)
    signature = inspect.signature(model.forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ModelError(
            f"the example input does not fit {type(model).__name__}.forward: {error}"
        ) from error
    names = list(signature.parameters)
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    positional = {
        f"arg_{i}" if variadic or i >= len(names) else names[i]: value
        for i, value in enumerate(bound.args)
    }
    return positional, bound.kwargs


def call(model: nn.Module, example: Nested) -> Output:
    """Return the output of ``model`` for ``example``."""
    args, kwargs = call_arguments(example)
    return model(*args, **kwargs)


def fresh(example: _Example) -> _Example:
    """Return a copy of ``example``; a forward pass may write into its input."""
    copy: _Example = pytree.tree_map(
        lambda v: v.detach().clone() if isinstance(v, torch.Tensor) else v, example
    )
    return copy


def to_device_of(model: nn.Module, example: _Example) -> _Example:
    """Return ``example`` with its tensors on the device of the model's first parameter."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    moved: _Example = pytree.tree_map(
        lambda leaf: leaf.to(device) if hasattr(leaf, "to") else leaf, example
    )
    return moved
