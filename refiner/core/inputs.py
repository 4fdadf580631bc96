"""What goes into a model: example inputs, the inputs of a batch, and how a model is called with them.

A tensor is the one argument, a tuple holds positional arguments and a mapping keyword arguments. A list
in an argument's place is a batch of samples, as in torchvision's detection models.
"""

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.errors import DataError, ModelError

ExampleInput: TypeAlias = torch.Tensor | tuple[Any, ...] | Mapping[str, Any]
"""One tensor, a tuple of positional arguments, or a mapping of keyword arguments."""


def call_arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments with which ``example`` calls a model.

    A mapping is keyword arguments, a tuple is positional ones, and anything else is the single
    positional argument.
    """
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, tuple):
        return example, {}
    return (example,), {}


def bind(model: nn.Module, example: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the positional and the keyword arguments of ``forward``, by parameter name, in order.

    Raises:
        ModelError: ``forward`` does not take them.
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


def call(model: nn.Module, example: Any) -> Any:
    """Return ``model`` called with ``example``."""
    args, kwargs = call_arguments(example)
    return model(*args, **kwargs)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the tensors inside nested tuples, lists and dicts, in order."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


TARGET_KEYS = ("labels", "label", "targets", "target", "mask", "masks", "y")


def inputs_and_target(batch: Any) -> tuple[Any, Any]:
    """Return what a batch gives the model, and what it compares the output with.

    A batch is a pair of them, or a mapping in which one of :data:`TARGET_KEYS` names the target. Of the
    rest of a mapping, one value is the one argument, several are keyword arguments.

    Raises:
        DataError: the batch is neither.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, Mapping):
        key = next((key for key in TARGET_KEYS if key in batch), None)
        if key is not None and len(batch) > 1:
            rest = {name: value for name, value in batch.items() if name != key}
            return (next(iter(rest.values())) if len(rest) == 1 else rest), batch[key]
        kind = f"a mapping of {', '.join(map(str, batch))}"
    else:
        kind = f"a {type(batch).__name__}"
        kind += f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
    raise DataError(
        f"inputs and target of a batch cannot be told apart: the loader gives {kind}. Give pairs, or "
        f"mappings with one of the keys {', '.join(TARGET_KEYS)} (all else goes to the model), or pass a "
        "task and an example_input of your own."
    )


def output_and_target(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """Return what ``model`` gives for a batch, and the batch's target.

    Raises:
        DataError: the batch does not tell its target.
    """
    inputs, target = inputs_and_target(batch)
    # Collating makes lists of tuples, and a tuple holds positional arguments.
    return call(model, tuple(inputs) if isinstance(inputs, list) else inputs), target


def batch_size(example: Any) -> int:
    """Return the number of samples: of the first tensor with dimensions, or list, or 1 without any."""
    args, kwargs = call_arguments(example)
    for value in (*args, *kwargs.values()):
        if isinstance(value, list) and value:
            return len(value)
        for tensor in tensors_in(value):
            if tensor.dim():
                return int(tensor.shape[0])
    return 1


def of_each_batch(example: Any, change: Callable[[Any], Any]) -> Any:
    """Return ``example`` with each tensor and each list that has its batch size changed."""
    size = batch_size(example)

    def changed(value: Any) -> Any:
        if isinstance(value, list) and len(value) == size:
            return change(value)
        return pytree.tree_map(
            lambda v: (
                change(v) if isinstance(v, torch.Tensor) and v.dim() and len(v) == size else v
            ),
            value,
        )

    args, kwargs = call_arguments(example)
    if isinstance(example, Mapping):
        return {name: changed(value) for name, value in kwargs.items()}
    return tuple(map(changed, args)) if isinstance(example, tuple) else changed(example)


def doubled(example: Any) -> Any:
    """Return ``example`` with each of its samples twice."""
    return of_each_batch(
        example, lambda v: torch.cat([v, v]) if isinstance(v, torch.Tensor) else v * 2
    )


def one_more(example: Any) -> Any:
    """Return ``example`` with its first sample once more."""
    return of_each_batch(
        example, lambda v: torch.cat([v, v[:1]]) if isinstance(v, torch.Tensor) else [*v, v[0]]
    )


def fresh(example: Any) -> Any:
    """Return a copy of ``example``, since a forward may change its input in place."""
    return pytree.tree_map(
        lambda v: v.detach().clone() if isinstance(v, torch.Tensor) else v, example
    )


def first_sample(example: Any) -> Any:
    """Return ``example`` cut to its first sample: what has its batch size is cut to one."""
    return of_each_batch(example, lambda batch: batch[:1])


def to_json(example: Any) -> Any:
    """Return the structure, shapes and types of ``example`` as JSON types; what is no data is text."""
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


def from_json(document: Any) -> Any:
    """Return an example input such as :func:`to_json` described: random numbers, and zeros for integers."""
    if isinstance(document, list):
        return tuple(from_json(item) for item in document)
    if "samples" in document:
        return [from_json(item) for item in document["samples"]]
    if "keywords" in document:
        return {key: from_json(value) for key, value in document["keywords"].items()}
    if "value" in document:
        return document["value"]
    dtype = getattr(torch, document["dtype"])
    if not dtype.is_floating_point:
        return torch.zeros(document["shape"], dtype=dtype)
    return torch.randn(document["shape"], generator=torch.Generator().manual_seed(0)).to(dtype)


PLAIN_TYPES = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout,
               torch.memory_format, type(Ellipsis))  # fmt: skip
_DEPTH = 4
"""How deep is looked into objects of the model's own."""


def contents(value: Any, steps: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield what is in a value, each part with the steps (how, key) that lead to it.

    Parts are tensors, plain values, and objects of the model's own, before what is in them.
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


def describe(example: Any) -> str:
    """Return the shapes in ``example``, for messages: ``1x3x32x32``."""
    shapes = ["x".join(map(str, tensor.shape)) or "scalar" for tensor in tensors_in(example)]
    return ", ".join(shapes) or type(example).__name__


def to_device_of(model: nn.Module, example: Any) -> Any:
    """Return ``example`` with its tensors on the device of the model's first parameter."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return pytree.tree_map(lambda leaf: leaf.to(device) if hasattr(leaf, "to") else leaf, example)
