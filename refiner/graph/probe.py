"""Which convs can a model do without? Each is put behind a wrapper, and the model is run.

A forward that reads a conv's attributes (``self.conv.stride``), asks for its class, or calls it with
more than one tensor works with the original alone; no graph of the data shows that, a run does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.inputs import to_device_of
from refiner.core.surgery import copied, replace_modules
from refiner.graph.trace_check import reference_runs, run_original, same


class _Shell(nn.Module):
    """Passes one tensor on to a module, and shows nothing else of it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inside = module

    def forward(self, x: torch.Tensor) -> Any:
        return self.inside(x)


def irreplaceable(model: nn.Module, groups: Sequence[Sequence[str]], example: Any) -> list[int]:
    """Return the numbers of the groups whose modules cannot be replaced by others.

    Args:
        model: is copied, never changed.
        groups: names of modules that would change together.
        example: an example input.

    Raises:
        ModelError: the model rejects the example input.
    """
    runs = reference_runs(copied(model), to_device_of(model, example))

    def same_without(names: Sequence[str]) -> bool:
        work = copied(model)
        replace_modules(work, {name: _Shell(work.get_submodule(name)) for name in names})
        try:
            return all(
                same(run.output, run_original(work, run.example, run.training)) for run in runs
            )
        except ModelError:
            return False

    return to_blame(
        len(groups), lambda numbers: same_without([n for i in numbers for n in groups[i]])
    )


def to_blame(count: int, holds: Callable[[Sequence[int]], bool]) -> list[int]:
    """Return those numbers below ``count`` with which something does not hold, by halves, since they are few."""

    def among(numbers: range) -> list[int]:
        if not numbers or holds(numbers):
            return []
        if len(numbers) == 1:
            return list(numbers)
        half = len(numbers) // 2
        return [*among(numbers[:half]), *among(numbers[half:])]

    return among(range(count))
