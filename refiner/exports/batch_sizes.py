"""The sizes of batches and inputs at which an export gives the outputs of its model."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.batches import batch_size, of_each_batch
from refiner.core.contents import Nested
from refiner.core.inputs import ExampleInput
from refiner.core.types import Output
from refiner.exports.check import TOLERANCE, check_output, compare, expected_output
from refiner.exports.input_sizes import fixed_size

_OTHERS = (1, 2, 3, 5, 9)
"""Batch sizes that are tried besides the example's own and its double."""
_REPEATS_SHRINK = 0.9
"""Factor between a sample and its next repetition, so that no two samples are equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSizes:
    """What was found when an export ran at several batch sizes."""

    held: tuple[int, ...]
    """Those with the model's outputs, in order; the example's size is one of them."""
    differed: tuple[int, ...] = ()
    """Those at which the model runs, and the export fails or gives other outputs."""
    refused: tuple[int, ...] = ()
    """Those at which the model itself fails."""
    fixed: str = ""
    """The size of inputs that the export is limited to, while the model takes others, too."""

    @property
    def complete(self) -> bool:
        """Whether the export holds wherever the model runs."""
        return not self.differed and len(self.held) > 1

    def __str__(self) -> str:
        return f"{self._batches()}, inputs of {self.fixed} alone" if self.fixed else self._batches()

    def _batches(self) -> str:
        if self.complete and not self.refused:
            return "any batch size"
        if len(self.held) == 1:
            return f"batches of {self.held[0]} alone"
        if self.complete:
            return (
                f"any batch size that the model takes ({listed(self.held)}, "
                f"not {listed(self.refused)})"
            )
        if self.differed == (1,) and not self.refused:
            return "batches of 2 or more, not of 1"
        return f"batches of {listed(self.held)}, not of {listed(self.differed)}"


def listed(numbers: tuple[int, ...]) -> str:
    """Return numbers for a sentence, such as ``2, 3 and 5``."""
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def batch_sizes(
    model: nn.Module,
    run: Callable[[ExampleInput], Output],
    example: ExampleInput,
    tolerance: float = TOLERANCE,
) -> BatchSizes:
    """Compare ``run`` with the model at the example's batch size, at 1, and at others.

    Larger inputs of the example's batch size are tried as well.

    Raises:
        AssertionError: they differ on the example itself.
        Exception: ``run`` fails on the example itself.
    """
    own = batch_size(example)
    compare(model, run, example, tolerance)
    found: dict[str, list[int]] = {"held": [own], "differed": [], "refused": []}
    for size in sorted({*_OTHERS, 2 * own} - {own}):
        given = resized(example, size)
        if batch_size(given) != size:
            continue  # nothing in the example has a batch
        try:
            expected = expected_output(model, given)
        except Exception:
            found["refused"].append(size)
            continue
        try:
            check_output(run, given, expected, tolerance)
            found["held"].append(size)
        except Exception:
            found["differed"].append(size)
    fixed = fixed_size(model, run, example, tolerance)
    return BatchSizes(**{name: tuple(sorted(sizes)) for name, sizes in found.items()}, fixed=fixed)


def only(example: ExampleInput) -> BatchSizes:
    """Return the sizes of an export that was written for the example's batch size."""
    return BatchSizes(held=(batch_size(example),))


def resized(example: ExampleInput, size: int) -> ExampleInput:
    """Return ``example`` with ``size`` samples: its own in turn, each repetition a bit smaller."""
    own = batch_size(example)

    def scaled(value: Nested, times: int) -> Nested:
        return pytree.tree_map(
            lambda v: (
                v * _REPEATS_SHRINK**times
                if isinstance(v, torch.Tensor) and v.is_floating_point()
                else v
            ),
            value,
        )

    def change(batch: Nested) -> Nested:
        samples = [scaled(batch[i % own], i // own) for i in range(size)]
        return torch.stack(samples) if isinstance(batch, torch.Tensor) else samples

    return of_each_batch(example, change)
