"""Is an export what the model is? It is run on the example, on other values and on other batch
sizes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.batches import batch_size, doubled, one_more
from refiner.core.contents import contents
from refiner.core.errors import ModelError, one_line
from refiner.core.inputs import ExampleInput, call, fresh
from refiner.core.randomness import seeded
from refiner.core.types import Output

TOLERANCE = 1e-5


def attempts_in_turn(format_name: str, ways: dict[str, Callable[[], str]]) -> str:
    """Return what the first attempt that works returns."""
    errors = []
    for name, attempt in ways.items():
        try:
            with seeded(0):
                return attempt()
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's trouble; torch raises OSError for want of a source file, too
            errors.append(f"{name}: {one_line(error, 150)}")
    raise ModelError(
        f"{format_name} cannot hold this model: {'; '.join(dict.fromkeys(errors))}. Try another "
        "format; torchscript, where it is scripted, keeps what depends on the data."
    )


def compare(
    model: nn.Module,
    run: Callable[[ExampleInput], Output],
    example: ExampleInput,
    tolerance: float = TOLERANCE,
) -> None:
    """Raise an AssertionError unless ``run`` gives what the model gives, on these and on other
    values."""
    for given in (example, _varied(example)):
        with seeded(0):
            expected = _tensors_of(call(model, fresh(given)))
        with seeded(0):
            got = _tensors_of(run(fresh(given)))
        assert expected, "the output holds no tensor to compare"
        assert len(expected) == len(got), f"{len(got)} outputs instead of {len(expected)}"
        for a, b in zip(expected, got, strict=True):
            torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance, equal_nan=True)


def _tensors_of(output: Any) -> list[torch.Tensor]:
    return [part for _, part in contents(output) if isinstance(part, torch.Tensor)]


def _varied(example: ExampleInput) -> Any:
    """Return an example of the same kind with other values, which a branch or a constant may be
    about."""
    return pytree.tree_map(
        lambda v: (
            v.flip(tuple(range(v.dim()))) * (0.7 if v.is_floating_point() else 1)
            if isinstance(v, torch.Tensor)
            else v
        ),
        example,
    )


def batch_note(
    model: nn.Module,
    run: Callable[[ExampleInput], Output],
    example: ExampleInput,
    tolerance: float = TOLERANCE,
) -> str:
    """Return whether ``run`` takes other batch sizes than the example's, in words."""
    try:
        for other in (one_more(example), one_more(doubled(doubled(example)))):
            compare(model, run, other, tolerance)
    except Exception:
        return f"batches of {batch_size(example)} alone"
    return "any batch size"
