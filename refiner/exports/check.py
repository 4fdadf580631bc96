"""Compare an export with its model, on the example and on other values."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.contents import contents
from refiner.core.inputs import ExampleInput, call, fresh
from refiner.core.randomness import seeded
from refiner.core.types import Output

TOLERANCE = 1e-5


def compare(
    model: nn.Module,
    run: Callable[[ExampleInput], Output],
    example: ExampleInput,
    tolerance: float = TOLERANCE,
) -> None:
    """Raise an AssertionError unless ``run`` and the model agree, on these and other values."""
    for given in (example, _varied(example)):
        check_output(run, given, expected_output(model, given), tolerance)


def expected_output(model: nn.Module, given: ExampleInput) -> Output:
    """Return what an export has to give for an input."""
    with seeded(0):
        return call(model, fresh(given))


def check_output(
    run: Callable[[ExampleInput], Output],
    given: ExampleInput,
    output: Output,
    tolerance: float = TOLERANCE,
) -> None:
    """Raise an AssertionError unless ``run`` gives an output that equals the model's."""
    expected = _tensors_of(output)
    with seeded(0):
        got = _tensors_of(run(fresh(given)))
    assert expected, "the output holds no tensor to compare"
    assert len(expected) == len(got), f"{len(got)} outputs instead of {len(expected)}"
    for a, b in zip(expected, got, strict=True):
        torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance, equal_nan=True)


def _tensors_of(output: Any) -> list[torch.Tensor]:
    return [part for _, part in contents(output) if isinstance(part, torch.Tensor)]


def _varied(example: ExampleInput) -> Any:
    """Return an example with other values, to expose branches and constants in a trace."""
    return pytree.tree_map(
        lambda v: (
            v.flip(tuple(range(v.dim()))) * (0.7 if v.is_floating_point() else 1)
            if isinstance(v, torch.Tensor)
            else v
        ),
        example,
    )
