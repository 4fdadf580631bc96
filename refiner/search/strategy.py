"""The seam between the search and what proposes architectures: ask, tell, recommend.

A strategy is deterministic given its seed and the scores that it received, so that several
processes that run the same one agree. Its whole state can be saved.

``refiner.refine(strategy=...)`` takes a name, an object that keeps :class:`Strategy`, or a
:data:`StrategyFactory`, which is called once the candidates and the feasible set are known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from refiner.core.types import StateDict
from refiner.cost.feasible import FeasibleSet
from refiner.search.effects import Effects
from refiner.space.architecture import Vector

Choices = Sequence[Sequence[str]]
"""Names of the candidates of each slot."""


class Strategy(Protocol):
    """What proposes architectures and learns from their scores.

    A strategy that compares scores of different updates sets ``same_images = True``. Where the
    weights stay as they are, the first score of each architecture is then on the same images.
    """

    def ask(self, count: int) -> list[Vector]:
        """Return ``count`` architectures to train or to score. Some may never be scored."""

    def tell(self, vectors: Sequence[Vector], scores: Sequence[float]) -> None:
        """Learn the scores, higher is better, of architectures."""

    def recommend(self, count: int) -> list[Vector]:
        """Return at most ``count`` different architectures, the likeliest to be best first."""

    def metrics(self) -> dict[str, float]:
        """Return what a person may watch, by name; ``entropy`` (nats a slot) where there is one."""

    def state_dict(self) -> StateDict:
        """Return the state as tensors and plain values."""

    def load_state_dict(self, state: StateDict) -> None:
        """Take over a state that :meth:`state_dict` returned."""


@runtime_checkable
class Ladder(Protocol):
    """A strategy that can also propose for other costs than that of the budget."""

    def ladder(self, count: int) -> list[Vector]:
        """Return at most ``count`` different architectures within the budget, from cheap to
        dear."""


@runtime_checkable
class Limited(Protocol):
    """A strategy that can go by other costs than those it began with."""

    def keep_to(self, feasible: FeasibleSet) -> None:
        """Recommend architectures of this set from now on.

        With a latency budget, architectures are timed before they are scored, and the set goes by
        these times.
        """


@runtime_checkable
class Informed(Protocol):
    """A strategy that can go by estimated effects of all swaps."""

    def inform(self, effects: Effects) -> None:
        """Learn the effects, before the first :meth:`Strategy.ask` of a search with fixed
        weights."""


@runtime_checkable
class Refitting(Protocol):
    """A strategy that can learn which architectures a refit suits."""

    def recommend_refitted(self, count: int, scores: Mapping[Vector, float]) -> list[Vector]:
        """Return at most ``count`` architectures that are likely to be the best after a refit.

        Args:
            count: how many.
            scores: after the refit, of those recommended before; none of them is returned.
        """


@runtime_checkable
class Checked(Informed, Protocol):
    """A strategy that goes by effects where a few scores agree with them."""

    refused: float | None
    """Kendall's tau of effects that were not used, with scores."""
    instead: str
    """What it does without effects, for people."""


StrategyFactory: TypeAlias = Callable[[Choices, FeasibleSet | None, int], Strategy]
"""Makes a strategy of the candidates, the feasible set (None where all is feasible) and the
seed."""
