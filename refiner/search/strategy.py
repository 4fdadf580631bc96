"""The seam between the search and what proposes architectures: ask, tell, recommend.

A strategy is deterministic given its seed and what it was told, so that several processes that run
the same one side by side agree, and its whole state can be saved.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from refiner.space.architecture import Vector

Choices = Sequence[Sequence[str]]
"""Names of the candidates of each slot."""


class Strategy(Protocol):
    """What proposes architectures and learns from their scores."""

    def ask(self, count: int) -> list[Vector]:
        """Return ``count`` architectures to train or to score; not all need be told about."""

    def tell(self, vectors: Sequence[Vector], scores: Sequence[float]) -> None:
        """Learn the scores, higher is better, of architectures."""

    def recommend(self, count: int) -> list[Vector]:
        """Return at most ``count`` different architectures, the likeliest to be best first."""

    def metrics(self) -> dict[str, float]:
        """Return what a person may watch, by name; ``entropy`` (nats a slot) where there is one."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that :meth:`state_dict` returned."""


@runtime_checkable
class Ladder(Protocol):
    """A strategy that can also propose for other costs than that of the budget."""

    def ladder(self, count: int) -> list[Vector]:
        """Return at most ``count`` different architectures within the budget, from cheap to dear."""
