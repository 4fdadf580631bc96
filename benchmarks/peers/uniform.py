"""Uniform width: every slot keeps the same share of its inner channels."""

from collections.abc import Sequence
from typing import Any

from refiner.core.errors import ConfigError
from refiner.cost.feasible import FeasibleSet
from refiner.space.architecture import Vector
from refiner.space.candidates import ChannelPruning, get_candidate


class UniformWidth:
    """A strategy without a search: it proposes the widest uniform architecture within the budget.

    Each slot takes its widest candidate that keeps at most that share of channels. Where all slots
    cannot step down together, the first ones do, so that the budget is used.
    """

    def __init__(
        self, choices: Sequence[Sequence[str]], feasible: FeasibleSet | None, _seed: int = 0
    ) -> None:
        assert feasible is not None
        self.vector = _widest(choices, feasible)

    def ask(self, count: int) -> list[Vector]:
        return [self.vector] * count

    def tell(self, vectors: Sequence[Vector], scores: Sequence[float]) -> None:
        pass

    def recommend(self, _count: int) -> list[Vector]:
        return [self.vector]

    def metrics(self) -> dict[str, float | str]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def _widest(choices: Sequence[Sequence[str]], feasible: FeasibleSet) -> Vector:
    """Return the widest architecture on the way from full width to the least in all slots."""
    ratios = [_ratios(names) for names in choices]
    vector = [0] * len(choices)
    for ratio in sorted({share for of_slot in ratios for share in of_slot}, reverse=True):
        for place, of_slot in enumerate(ratios):
            if ratio in of_slot:
                vector[place] = of_slot[ratio]
                if feasible.holds(tuple(vector)):
                    return tuple(vector)
    raise ConfigError("uniform width cannot keep to this budget. Allow more.")


def _ratios(names: Sequence[str]) -> dict[float, int]:
    """Return the index of each pruning of a slot by the share of channels that it keeps."""
    found = {}
    for index, name in enumerate(names[1:], 1):
        candidate = get_candidate(name)
        if isinstance(candidate, ChannelPruning):
            found[candidate.keep_ratio] = index
    return found
