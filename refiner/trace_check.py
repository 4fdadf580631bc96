"""Does a trace do what the model does? Both run on the example input, in both modes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from refiner.errors import ModelError, one_line
from refiner.inputs import batch_size, call, describe, tensors_in
from refiner.modes import mode
from refiner.randomness import seeded

_SEED = 0


@contextmanager
def as_found(module: nn.Module, training: bool) -> Iterator[None]:
    """Run inside in the given mode without gradients, seeded; put back buffers and mode after."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        with mode(module, training), torch.no_grad(), seeded(_SEED):
            yield
    finally:
        for name, buffer in module.named_buffers():
            if name in buffers:
                buffer.copy_(buffers[name])


def fresh(example: Any) -> Any:
    """Return a copy of the example input, since a forward may change its input in place."""
    return pytree.tree_map(lambda v: v.clone() if isinstance(v, torch.Tensor) else v, example)


@dataclass(frozen=True, slots=True)
class Run:
    """What the original gave for an input in one mode."""

    example: Any
    training: bool
    output: Any


def reference_runs(work: nn.Module, example: Any) -> tuple[Run, Run]:
    """Run the original in train and in eval mode; eval comes last, its shapes are those kept.

    A norm over a single value cannot train, so a batch of one is doubled where train mode needs it.
    """
    evaluated = Run(example, False, run_original(work, example, training=False))
    try:
        output = run_original(work, example, training=True)
    except ModelError:
        if batch_size(example) != 1:
            raise
        example = pytree.tree_map(_doubled, example)
        output = run_original(work, example, training=True)
    return Run(example, True, output), evaluated


def _doubled(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dim() and len(value) == 1:
        return torch.cat([value, value])
    return value


def run_original(work: nn.Module, example: Any, training: bool) -> Any:
    """Return what the model gives for an example input in one mode, under the seed of all runs.

    Raises:
        ModelError: the model fails.
    """
    with as_found(work, training):
        try:
            return call(work, fresh(example))
        except Exception as error:
            name = "train" if training else "eval"
            raise ModelError(
                f"{type(work).__name__} fails on an input of shape {describe(example)} in {name} "
                f"mode: {one_line(error)}. Give it an input that fits."
            ) from error


class Recorder(fx.Interpreter):
    """Runs the graph, annotates shapes, and keeps the values of chosen nodes as they were made."""

    def __init__(self, traced: fx.GraphModule, keep: frozenset[fx.Node] = frozenset()) -> None:
        super().__init__(traced)
        self.keep = keep
        self.kept: dict[fx.Node, Any] = {}
        self.running: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, note what it gave."""
        self.running = n
        value = super().run_node(n)
        n.meta["shape"] = tuple(value.shape) if isinstance(value, torch.Tensor) else None
        n.meta["holds_tensor"] = bool(tensors_in(value))
        if n in self.keep:
            self.kept[n] = fresh(value)
        return value


def same(first: Any, second: Any) -> bool:
    """Return whether two outputs hold equal tensors (NaN equals NaN) in equal structures."""
    leaves, structure = pytree.tree_flatten(first)
    others, other_structure = pytree.tree_flatten(second)
    if structure != other_structure:
        return False
    return all(_same_leaf(a, b) for a, b in zip(leaves, others, strict=True))


def _same_leaf(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return (
            first.shape == second.shape
            and first.dtype == second.dtype
            and torch.allclose(first, second, rtol=0.0, atol=0.0, equal_nan=True)
        )
    return type(first) is type(second)
