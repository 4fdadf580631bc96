"""What swaps cost in agreement, to second order: a quadratic form over architectures.

Suffixes: J candidates of all slots, the originals included; R resources.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from refiner.core.types import StateDict
from refiner.space.architecture import Vector

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Estimated losses of agreement. Candidates are in the order of slots and of indices."""

    sizes: tuple[int, ...]
    """Number of candidates of each slot, the original included."""
    gram_JJ: Array
    """Twice the losses of single candidates on the diagonal, and what pairs add to them elsewhere;
    zeros for originals."""
    added_J: Array
    """Weights that each candidate has more than the original, as a share of the weights of all
    originals; zeros for originals."""

    @property
    def starts(self) -> Array:
        """Number of the first candidate of each slot."""
        starts: Array = np.cumsum([0, *self.sizes[:-1]])
        return starts

    def columns(self, vector: Vector) -> Array:
        """Return the numbers of an architecture's candidates."""
        columns: Array = self.starts + np.array(vector)
        return columns

    def loss(self, vector: Vector) -> float:
        """Return the estimated loss of agreement of an architecture, at least 0."""
        columns = self.columns(vector)
        return max(float(self.gram_JJ[np.ix_(columns, columns)].sum()) / 2, 0.0)

    def weights(self, vector: Vector) -> float:
        """Return the weights of an architecture's slots, as a share of the originals'."""
        return 1 + float(self.added_J[self.columns(vector)].sum())

    def single(self, slot: int, index: int) -> float:
        """Return the estimated loss of one swap."""
        column = int(self.starts[slot]) + index
        return float(self.gram_JJ[column, column]) / 2

    def state_dict(self) -> StateDict:
        """Return the effects as tensors and plain values."""
        return {
            "sizes": list(self.sizes),
            "gram": torch.from_numpy(self.gram_JJ),
            "added": torch.from_numpy(self.added_J),
        }

    @classmethod
    def of_state(cls, state: StateDict) -> Self:
        """Return what :meth:`state_dict` was of."""
        gram_JJ, added_J = state["gram"].numpy(), state["added"].numpy()
        return cls(sizes=tuple(state["sizes"]), gram_JJ=gram_JJ, added_J=added_J)

    def ranked(self) -> list[tuple[int, int]]:
        """Return all swaps as (slot, index), those that cost least first."""
        swaps = [(s, k) for s, size in enumerate(self.sizes) for k in range(1, size)]
        return sorted(swaps, key=lambda swap: self.single(*swap))


def one_swap(slots: int, slot: int, index: int) -> Vector:
    """Return the architecture of so many slots with one swap."""
    return tuple(index if s == slot else 0 for s in range(slots))


def tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Kendall's tau of two rankings without ties."""
    a, b = np.array(first), np.array(second)
    agree = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
    return float(agree.sum() / (len(a) * (len(a) - 1)))
