"""The check of estimated effects: a few single swaps are scored, and both rankings compared."""

import numpy as np

from refiner.search.effects import Effects, one_swap, tau
from refiner.search.scores import Scores
from refiner.space.architecture import Vector

CHECKS = 8
"""Single swaps that are scored, spread evenly over the ranks of their estimates."""
LEAST_TAU = 0.4
"""Kendall's tau between estimates and scores of these below which estimates are not used."""


class EffectsCheck:
    """Compares estimates with scores.

    Args:
        effects: estimates for all swaps.
    """

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        ranked = effects.ranked()
        places = np.linspace(0, len(ranked) - 1, min(CHECKS, len(ranked))).round().astype(int)
        self.swaps = [one_swap(len(effects.sizes), *ranked[place]) for place in places]
        """Architectures to score."""

    def missing(self, scores: Scores) -> list[Vector]:
        """Return the architectures that have no score yet."""
        return [swap for swap in self.swaps if swap not in scores]

    def rank(self, scores: Scores) -> float | None:
        """Return Kendall's tau between the estimates and the scores; None while one is missing."""
        if self.missing(scores):
            return None
        if len(self.swaps) < 3:
            return 1.0
        estimates = [-self.effects.loss(swap) for swap in self.swaps]
        return tau(estimates, [scores.mean(swap) for swap in self.swaps])
