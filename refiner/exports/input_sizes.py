"""Whether an export takes inputs of other sizes than the example's, such as larger images."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from refiner.core.contents import tensors_in
from refiner.core.inputs import ExampleInput
from refiner.core.types import Output
from refiner.exports.check import check_output, expected_output

_OTHERS: tuple[Callable[[int, int], int], ...] = (
    lambda n, k: n + 32 * (k + 1),  # as networks with strides take it
    lambda n, k: n + 17 + k,
    lambda n, k: max(2, 3 * n // 4 - k),
)
"""Other sizes for ``n`` pixels of the dimension ``k``, counted from the last one."""


def fixed_size(
    model: nn.Module,
    run: Callable[[ExampleInput], Output],
    example: ExampleInput,
    tolerance: float,
) -> str:
    """Return the size that ``run`` is limited to, such as ``224 x 224``.

    It is empty if ``run`` holds on inputs of a few other sizes, larger and smaller, or if the model
    itself takes none. An example may also have no input with a height, width or length.
    """
    for given in of_other_sizes(example):
        try:
            expected = expected_output(model, given)
        except Exception:  # the model does not take this size
            continue
        try:
            check_output(run, given, expected, tolerance)
        except Exception:
            first = next(tensor for tensor in tensors_in(example) if _has_size(tensor))
            return " x ".join(map(str, first.shape[2:]))
    return ""


def of_other_sizes(example: ExampleInput) -> Iterator[ExampleInput]:
    """Yield examples with inputs of other sizes, not square ones; nothing if none has a size.

    The values come from interpolation, so those of images stay in their range.
    """
    if any(map(_has_size, tensors_in(example))):
        for size in _OTHERS:
            yield pytree.tree_map(partial(_resized, size), example)


def _has_size(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds samples with channels and one to three more dimensions."""
    return 3 <= tensor.dim() <= 5 and tensor.is_floating_point() and min(tensor.shape[2:]) > 1


def _resized(size: Callable[[int, int], int], value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or not _has_size(value):
        return value
    last = value.dim() - 1
    sides = [size(n, last - d) for d, n in enumerate(value.shape) if d >= 2]
    return F.interpolate(value, size=sides, mode="nearest")
