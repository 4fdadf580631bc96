"""Find the modules that cannot be replaced: each is put behind a wrapper, and the model is run.

A forward may read a conv's attributes (``self.conv.stride``), ask for its class, or call it with
more than one tensor. Such a forward works with the original conv only. No graph of the data shows
that, but a run does.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.surgery import replace_modules
from refiner.core.types import Output
from refiner.graph.trace_check import run_original, same
from refiner.graph.traced_model import TracedModel


class _Shell(nn.Module):
    """Passes one tensor on to a module, and shows nothing else of it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inside = module

    def forward(self, x: torch.Tensor) -> Output:
        return self.inside(x)


def irreplaceable(traced: TracedModel, groups: Sequence[Sequence[str]]) -> list[int]:
    """Return the indices of the groups whose modules cannot be replaced by others.

    Args:
        traced: the model; it is left as it is.
        groups: names of modules that would change together.

    Raises:
        ModelError: the recorded outputs are not those of a run without recording.
    """
    names = [name for group in groups for name in group]
    if _replaceable(traced, names):
        return []
    traced.confirm()
    return to_blame(
        len(groups), lambda indices: _replaceable(traced, [n for i in indices for n in groups[i]])
    )


def _replaceable(traced: TracedModel, names: Sequence[str]) -> bool:
    """Return whether the model gives the same outputs with these modules behind wrappers."""
    if traced.replaceable.issuperset(names):
        return True
    work = traced.work
    modules = {name: work.get_submodule(name) for name in names}
    replace_modules(work, {name: _Shell(module) for name, module in modules.items()})
    try:
        holds = all(
            same(run.output, run_original(work, run.example, run.training)) for run in traced.runs
        )
    except ModelError:
        holds = False
    finally:
        replace_modules(work, modules)
    if holds:
        traced.replaceable.update(names)
        traced.confirmed = True  # a wrapper passes everything on, so the original ran
    return holds


def to_blame(count: int, holds: Callable[[Sequence[int]], bool]) -> list[int]:
    """Return the indices below ``count`` with which ``holds`` fails; few are expected.

    Halves are tried first, so that one failure among many costs few calls.
    """

    def among(indices: range) -> list[int]:
        if not indices or holds(indices):
            return []
        if len(indices) == 1:
            return list(indices)
        half = len(indices) // 2
        return [*among(indices[:half]), *among(indices[half:])]

    return among(range(count))
