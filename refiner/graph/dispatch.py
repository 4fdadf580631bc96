"""What one operation of aten reads and writes, as a dispatch mode sees it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
from torch._ops import OpOverload
from torch.fx.node import Argument

from refiner.core.contents import PLAIN_TYPES, contents, tensors_in

Steps: TypeAlias = tuple[tuple[Callable[..., object], Argument], ...]
"""The way to a part of a value: functions such as ``getitem``, each with its key."""

_READS = {torch.ops.aten._local_scalar_dense, torch.ops.aten.is_nonzero, torch.ops.aten.equal}


def reads_number(func: OpOverload) -> bool:
    """Return whether an operation turns a tensor into a Python number."""
    return func._overloadpacket in _READS


def convolves(func: OpOverload) -> bool:
    """Return whether an operation is a convolution, a deformable one included."""
    return func._overloadpacket.__name__ in ("convolution", "deform_conv2d")


def written(
    func: OpOverload, args: Sequence[object], kwargs: Mapping[str, object]
) -> list[torch.Tensor]:
    """Return the tensors among the arguments that an operation writes to."""
    schema = func._schema
    if not schema.is_mutable:
        return []
    found = []
    for i, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            found += tensors_in(value)
    return found


def memory_of(tensor: torch.Tensor) -> int:
    """Return a number that identifies the memory of a tensor; all its views have the same."""
    try:
        number: int = tensor.untyped_storage()._cdata
    except NotImplementedError:  # sparse tensors have no storage
        return id(tensor)
    return number


def parts_of(value: object) -> Iterator[tuple[Steps, object]]:
    """Yield the tensors and the model's own objects in a value, each with the steps to it."""
    for steps, part in contents(value):
        plain = isinstance(part, PLAIN_TYPES) or callable(part)
        if not plain and all(isinstance(key, PLAIN_TYPES) for _, key in steps):
            yield steps, part


def autocast_state() -> dict[str, torch.dtype]:
    """Return the dtype of each device type for which autocast is on."""
    return {
        kind: torch.get_autocast_dtype(kind)
        for kind in ("cpu", "cuda")
        if torch.is_autocast_enabled(kind)
    }
