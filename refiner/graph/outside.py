"""Tensors from outside of a model's copy: those of the original, and those of global modules."""

import torch
from torch import nn

from refiner.core.contents import describe, tensors_in
from refiner.core.errors import ModelError
from refiner.core.references import references
from refiner.graph.dispatch import memory_of


class Outside:
    """Watches which parameters a copy of a model computes with that are not its own.

    Args:
        original: the model.
        copy: its copy, which runs.
    """

    def __init__(self, original: nn.Module, copy: nn.Module) -> None:
        self._copy = copy
        self._own = {memory_of(t) for t in (*copy.parameters(), *copy.buffers())}
        stored = (*original.named_parameters(), *original.named_buffers())
        self._original = {memory_of(t): name for name, t in stored}
        self._found: dict[int, torch.Tensor] = {}
        self._made: set[int] = set()

    def reads(self, values: object) -> None:
        """Note the parameters among the inputs of an operation."""
        for tensor in tensors_in(values):
            memory = memory_of(tensor)
            if memory in self._own or memory in self._made:
                continue
            if memory in self._original or isinstance(tensor, nn.Parameter):
                self._found[memory] = tensor

    def makes(self, output: object) -> None:
        """Note what an operation computed: a model may make a parameter when it is called."""
        self._made |= {memory_of(t) for t in tensors_in(output)} - self._original.keys()

    def check(self) -> None:
        """Raise a ModelError if the copy computed with a tensor that no copy can have."""
        held = {memory_of(t) for t in _held_by(self._copy)}
        name = type(self._copy).__name__
        for memory, tensor in self._found.items():
            if memory in self._original:
                raise ModelError(
                    f"a copy of {name} still uses {self._original[memory]} of the original. It "
                    "reaches that by a global variable, a cache or the like. Reach it by self."
                )
            if memory not in held:
                raise ModelError(
                    f"{name} uses a parameter of shape {describe(tensor)} that no attribute of it "
                    "holds, so all copies would share it. Make its module, perhaps a global one, "
                    "an attribute of the model."
                )


def _held_by(root: nn.Module) -> list[torch.Tensor]:
    """Return the tensors that hang in attributes and are copied with the model."""
    values = (each.value for each in references(root) if not each.via)
    return [value for value in values if isinstance(value, torch.Tensor)]
