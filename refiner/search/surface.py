"""A surface of losses over architectures, and the search for its lowest points within budgets.

The logarithm of a loss is linear in that of the estimate (:class:`refiner.search.effects.Effects`),
plus a weight for each candidate. From a few starts, the best change of one or two slots is taken
until none is better. All such changes are valued at once.

Suffixes: J candidates of all slots, the originals included; R resources.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from refiner.cost.feasible import FeasibleSet
from refiner.search.effects import Array, Effects
from refiner.space.architecture import Vector

_LEAST = 1e-3
"""Least loss of an architecture, in units of the mean of all single swaps; for its logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """Values of architectures: logarithms of their losses."""

    effects: Effects
    slope: float = 1.0
    """Of the logarithm of the loss, over that of the estimate."""
    constant: float = 0.0
    """Added to each value."""
    weight_J: Array
    """Added to the value for each candidate; 0 for originals."""

    def value(self, vector: Vector) -> float:
        """Return the value of an architecture."""
        weights = self.weight_J[self.effects.columns(vector)].sum()
        return float(self.constant + self.slope * log_loss(self.effects, [vector])[0] + weights)


def log_loss(effects: Effects, vectors: Iterable[Vector]) -> Array:
    """Return the logarithms of the estimated losses of architectures."""
    return np.log(np.array([effects.loss(vector) for vector in vectors]) + _least(effects))


def _least(effects: Effects) -> float:
    return max(_LEAST * float(effects.gram_JJ.diagonal().mean()) / 2, float(np.finfo(float).tiny))


class Descent:
    """Goes down surfaces over the same effects within the same budgets."""

    def __init__(self, effects: Effects, feasible: FeasibleSet | None) -> None:
        self.effects, self.feasible = effects, feasible
        slots = np.arange(len(effects.sizes))
        self._slot_J = np.repeat(slots, effects.sizes)
        self._index_J = np.arange(len(self._slot_J)) - effects.starts[self._slot_J]
        self._pairs_JJ = self._slot_J[:, None] < self._slot_J
        resources = [] if feasible is None else feasible.resources()
        self._cost_RJ = np.array([np.concatenate(costs) for costs, _, _ in resources])

    def lowest(self, surface: Surface, starts: Iterable[Vector], count: int) -> list[Vector]:
        """Return at most ``count`` feasible architectures, the lowest that were met, lowest first.

        Args:
            surface: what is gone down.
            starts: feasible architectures.
            count: how many; beside the ends of the descents, they are neighbours of these.
        """
        met: dict[Vector, float] = {}
        for start in starts:
            vector, value = start, np.inf
            while True:
                value_JJ = self._values(surface, vector)
                flat = int(value_JJ.argmin())
                if not value_JJ.flat[flat] < value - 1e-9:
                    break
                vector, value = self._changed(vector, flat), float(value_JJ.flat[flat])
            met[vector] = surface.value(vector)
            met.update(self._around(vector, value_JJ, count))
        return sorted(met, key=lambda vector: (met[vector], vector))[:count]

    def _around(self, vector: Vector, value_JJ: Array, count: int) -> dict[Vector, float]:
        """Return the lowest of the feasible architectures that differ in two slots at most."""
        few = min(value_JJ.size, count + len(vector))  # the architecture itself stands once a slot
        flats = np.argpartition(value_JJ, few - 1, axis=None)[:few]
        values = value_JJ.flat[flats]
        order = [i for i in values.argsort(kind="stable") if np.isfinite(values[i])]
        return {self._changed(vector, int(flats[i])): float(values[i]) for i in order}

    def _changed(self, vector: Vector, flat: int) -> Vector:
        """Return the architecture of a position among the values of changes."""
        changed = list(vector)
        for column in divmod(flat, len(self._slot_J)):
            changed[self._slot_J[column]] = int(self._index_J[column])
        return tuple(changed)

    def _values(self, surface: Surface, vector: Vector) -> Array:
        """Return the values after two changes, J x J, infinite where they are not allowed.

        On the diagonal are those after one change, that to a slot's present candidate included.
        """
        gram_JJ = self.effects.gram_JJ
        now = self.effects.columns(vector)
        now_J = now[self._slot_J]
        reach_J = gram_JJ[:, now].sum(axis=1)
        diagonal_J = gram_JJ.diagonal()
        single_J = 2 * (reach_J - reach_J[now_J]) + diagonal_J + diagonal_J[now_J]
        single_J = single_J / 2 - gram_JJ[np.arange(len(now_J)), now_J]
        # Of two changes, the pairs of old and new candidates.
        value_JJ = gram_JJ - gram_JJ[now_J]
        value_JJ -= (gram_JJ[:, now] - gram_JJ[np.ix_(now_J, now)])[:, self._slot_J]
        value_JJ += single_J[:, None]
        value_JJ += single_J
        np.fill_diagonal(value_JJ, single_J)
        value_JJ += reach_J[now].sum() / 2
        np.maximum(value_JJ, 0, out=value_JJ)
        value_JJ += _least(self.effects)
        np.log(value_JJ, out=value_JJ)
        value_JJ *= surface.slope
        weight_J = surface.weight_J - surface.weight_J[now_J]
        value_JJ += _added(weight_J)
        value_JJ += surface.constant + surface.weight_J[now].sum()
        value_JJ[~self._allowed(vector, now_J)] = np.inf
        return value_JJ

    def _allowed(self, vector: Vector, now_J: Array) -> Array:
        """Return which changes lead into the set, J x J, each pair of them once."""
        changed_J = np.arange(len(now_J)) != now_J
        allowed_JJ: Array = self._pairs_JJ & changed_J[:, None] & changed_J
        np.fill_diagonal(allowed_JJ, True)
        if self.feasible is None or self.feasible.unlimited:
            return allowed_JJ
        used_JJ = np.zeros_like(allowed_JJ)
        for r, total in enumerate(self.feasible.cost(vector).tolist()):
            cost_JJ = total + _added(self._cost_RJ[r] - self._cost_RJ[r][now_J])
            allowed_JJ &= cost_JJ <= self.feasible.limits[r]
            used_JJ |= cost_JJ >= self.feasible.floors[r]
        return allowed_JJ & used_JJ


def _added(change_J: Array) -> Array:
    """Return the sums of two changes, J x J, and single ones on the diagonal."""
    sum_JJ: Array = change_J[:, None] + change_J
    np.fill_diagonal(sum_JJ, change_J)
    return sum_JJ
