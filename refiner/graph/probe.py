"""Find the modules that cannot be replaced: put each in a wrapper, and run the model.

A forward may read a conv's weight, check its class, or call it with more than one tensor. It may
also call the conv by another reference, such as a list. Such a forward works with the original conv
only. The graph does not show that, but a run does. Hyperparameters may be read: what replaces a
conv answers for them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.references import references
from refiner.core.stand_ins import StandIn
from refiner.core.surgery import replace_modules
from refiner.core.types import Output
from refiner.graph.trace_check import Run, run_original, same
from refiner.graph.traced_model import TracedModel


class _Shell(StandIn):
    """Passes one tensor to a module and hides all about it but its hyperparameters."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inside = module
        self.called = self.read = False

    def stands_for(self) -> nn.Module:
        self.read = True
        return self.inside

    def forward(self, x: torch.Tensor) -> Output:
        self.called = True
        return self.inside(x)


def irreplaceable(traced: TracedModel, groups: Sequence[Sequence[str]]) -> list[int]:
    """Return the indices of the groups whose modules cannot be replaced by others.

    Args:
        traced: the model; it stays unchanged.
        groups: names of the modules that would change together.

    Raises:
        ModelError: a run without recording gives other outputs than the recorded ones.
    """
    names = [name for group in groups for name in group]
    if _replaceable(traced, names):
        return []
    traced.confirm()
    return to_blame(
        len(groups), lambda indices: _replaceable(traced, [n for i in indices for n in groups[i]])
    )


def _replaceable(traced: TracedModel, names: Sequence[str]) -> bool:
    """Return whether the model gives the same outputs with these modules in wrappers."""
    if traced.replaceable.issuperset(names):
        return True
    work = traced.work
    modules = {name: work.get_submodule(name) for name in names}
    shells = {name: _Shell(module) for name, module in modules.items()}
    replace_modules(work, shells)

    def works(run: Run) -> bool:
        for shell in shells.values():
            shell.called = False
        output = run_original(work, run.example, run.training)
        # One that is not called hangs elsewhere, too, where its module stays.
        return same(run.output, output) and all(shell.called for shell in shells.values())

    try:
        holds = all(map(works, traced.runs))
    except ModelError:
        holds = False
    finally:
        replace_modules(work, modules)
    if holds:
        traced.replaceable.update(names)
        traced.read.update(name for name, shell in shells.items() if shell.read)
        traced.confirmed = True  # the wrapped modules are the originals
    return holds


def why_irreplaceable(traced: TracedModel, name: str) -> str:
    """Return why a module cannot be replaced, for people."""
    module = traced.work.get_submodule(name)
    paths = (each.path for each in references(traced.work) if each.value is module)
    path = next(paths, None)
    if path is not None:
        return f"{path} holds it as well, and would not call what replaces it"
    return "the model uses it in other ways than by calling it"


def to_blame(count: int, holds: Callable[[Sequence[int]], bool]) -> list[int]:
    """Return the indices below ``count`` for which ``holds`` fails; few should.

    The search halves the range, so that one failure among many costs few calls.
    """

    def among(indices: range) -> list[int]:
        if not indices or holds(indices):
            return []
        if len(indices) == 1:
            return list(indices)
        half = len(indices) // 2
        return [*among(indices[:half]), *among(indices[half:])]

    return among(range(count))
