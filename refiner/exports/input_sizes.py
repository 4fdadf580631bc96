"""Whether an export takes inputs of other sizes than the example's, such as larger images."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from refiner.core.contents import tensors_in
from refiner.core.inputs import ExampleInput
from refiner.core.types import Output
from refiner.exports.check import check_output, expected_output

_MORE = 32
"""Pixels that are added to the last dimension; twice as many to the one before it, and so on."""


def fixed_size(
    model: nn.Module,
    run: Callable[[ExampleInput], Output],
    example: ExampleInput,
    tolerance: float,
) -> str:
    """Return the size that ``run`` is limited to, such as ``224 x 224``.

    It is empty if ``run`` holds on larger inputs, if the model itself takes none, or if the example
    has no input with a height, width or length.
    """
    given = larger(example)
    if given is None:
        return ""
    try:
        expected = expected_output(model, given)
    except Exception:
        return ""
    try:
        check_output(run, given, expected, tolerance)
    except Exception:
        first = next(tensor for tensor in tensors_in(example) if _has_size(tensor))
        return " x ".join(map(str, first.shape[2:]))
    return ""


def larger(example: ExampleInput) -> ExampleInput | None:
    """Return an example with larger inputs, not square ones; None if none of them has a size.

    The values come from interpolation, so those of images stay in their range.
    """
    if not any(map(_has_size, tensors_in(example))):
        return None
    grown: ExampleInput = pytree.tree_map(
        lambda v: _grown(v) if isinstance(v, torch.Tensor) and _has_size(v) else v, example
    )
    return grown


def _has_size(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds samples with channels and one to three more dimensions."""
    return 3 <= tensor.dim() <= 5 and tensor.is_floating_point() and min(tensor.shape[2:]) > 1


def _grown(tensor: torch.Tensor) -> torch.Tensor:
    last = tensor.dim() - 1
    size = [n + _MORE * (last - d + 1) for d, n in enumerate(tensor.shape) if d >= 2]
    return F.interpolate(tensor, size=size, mode="nearest")
