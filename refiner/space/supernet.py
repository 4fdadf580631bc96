"""The supernet: the model with a mixed operation in every slot, one path active at a time."""

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn

from refiner.core.randomness import derive_seed
from refiner.core.stand_ins import StandIn
from refiner.core.surgery import copied, replace_modules
from refiner.core.thawing import thaw
from refiner.core.types import Output
from refiner.space.architecture import Vector, check_vector
from refiner.space.filling import fill
from refiner.space.search_space import SearchSpace


class MixedOp(StandIn):
    """Holds operations and runs the active one; the others take neither time nor activations."""

    def __init__(self, operations: Iterable[nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)
        self.active: nn.Module
        self.choose(0)

    def choose(self, index: int) -> None:
        """Make the operation of that index the active one."""
        # Not registered a second time: the parameters belong to `operations`.
        object.__setattr__(self, "active", self.operations[index])

    def stands_for(self) -> nn.Module:
        """Return the active operation."""
        return self.active

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the active operation's output."""
        output: torch.Tensor = self.active(x)
        return output


class Supernet(nn.Module):
    """A copy of a model in which each conv of a slot, and the norm after it, is a mixed operation.

    Index 0 of every slot is the original with its weights, so the zero vector equals the original
    model to the bit. Each candidate has a norm of its own, a copy of the original's, so that the
    statistics of different operations never mix. So it has of what is along.

    Args:
        model: the original; it is copied, never changed. If none of its parameters takes a
            gradient, all of the copy do.
        space: its slots and candidates.
        seed: determines the initial weights of the new operations.
    """

    def __init__(self, model: nn.Module, space: SearchSpace, *, seed: int = 0) -> None:
        super().__init__()
        self.model = copied(model)
        thaw(self.model)
        self.space = space
        self.candidates = space.candidates
        self._choices: list[list[MixedOp]] = []
        self._names: dict[str, MixedOp] = {}
        modules: dict[str, nn.Module] = dict(self.model.named_modules(remove_duplicate=False))
        for i, (slot, names) in enumerate(zip(space.slots, space.candidates, strict=True)):
            filled = [
                fill(slot, name, modules, partial(_seed, seed, i, k))
                for k, name in enumerate(names)
            ]
            mixed: dict[str, MixedOp] = {}
            for site in slot.sites:
                conv = modules[site.conv]  # shared by candidates that keep it
                mixed[site.conv] = MixedOp([new.get(site.conv, conv) for new in filled])
                for name in site.after:
                    after = modules[name]
                    own = [new[name] if name in new else copied(after) for new in filled[1:]]
                    mixed[name] = MixedOp([after, *own])
            self._choices.append(list(mixed.values()))
            self._names.update(mixed)
        replace_modules(self.model, self._names)
        self.vector: Vector = (0,) * len(space.slots)

    def mixed(self, name: str) -> MixedOp:
        """Return the mixed operation that replaces a slot's conv, or the norm after it."""
        return self._names[name]

    def select(self, vector: Vector) -> None:
        """Make ``vector`` the path that the next calls take.

        Raises:
            ArchitectureError: wrong length, or an index that its slot does not have.
        """
        check_vector(vector, self.space.slots, self.space.candidates)
        for mixed_ops, index in zip(self._choices, vector, strict=True):
            for mixed in mixed_ops:
                mixed.choose(index)
        self.vector = tuple(vector)

    def forward(self, *args: object, **kwargs: object) -> Output:
        """Return the output of the selected path."""
        return self.model(*args, **kwargs)

    def emit(self, vector: Vector) -> nn.Module:
        """Return the path of ``vector`` as a separate module with copies of its weights."""
        self.select(vector)
        # In the copy, the active operation replaces each mixed one, so that no other is copied.
        memo: dict[int, object] = {}
        for mixed in self._names.values():
            memo[id(mixed)] = copied(mixed.active, memo)
        return copied(self.model, memo)


def _seed(seed: int, slot: int, candidate: int, conv: int) -> int:
    """Return the seed of a new operation's weights, given the indices of slot, candidate, conv."""
    return derive_seed(seed, "supernet", slot, conv, candidate)
