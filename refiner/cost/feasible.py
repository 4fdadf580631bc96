"""Find the choices that still lead to an architecture within every budget, exactly.

For each slot, the set keeps the sums that this slot and all later ones can reach, and the number
of ways to reach each. A choice is allowed if the cost of the choices before it, its own cost and
one of the sums after it stay within all limits together. That sum was itself built from choices,
so there is always a next one. Costs are integers (MACs, parameters, nanoseconds), so nothing is
rounded.

Where too many sums can be reached, those that lie close together are merged into one of them.
What is sampled is then still within the limits, and a few architectures at their edge are lost.

Suffixes: M samples, V candidates of a slot, P sums, R resources.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refiner.core.errors import ConfigError

Array = np.ndarray[Any, Any]
LEAST_USED = 0.97
"""Share of a limit that an architecture uses, of one of the resources, where the space can."""
_MOST_SUMS = 4096
_TINY = float(np.finfo(np.float64).tiny)


class FeasibleSet:
    """The architectures within limits on several resources, which use at least one of them up.

    Args:
        costs: of each slot, the cost of each candidate, V x R integers.
        base: cost of all that lies outside the slots, R; it may be negative.
        limits: the most that an architecture may cost, R.
        least_used: share of its limit that an architecture has to use of one resource or another,
            lowered to what can be reached. A limit that every architecture keeps to does not count.

    Raises:
        ConfigError: no architecture is within all limits.
    """

    def __init__(
        self,
        costs: Sequence[Sequence[Sequence[int]]],
        base: Sequence[int],
        limits: Sequence[int],
        *,
        least_used: float = LEAST_USED,
    ) -> None:
        self._costs = [np.array(each, dtype=np.int64) for each in costs]
        self._base = np.array(base, dtype=np.int64)
        self.limits = np.array(limits, dtype=np.int64)
        self._least_used = least_used
        self.least = self._base + sum(each.min(axis=0) for each in self._costs)
        """The least that the space can reach of each resource, R."""
        self.most = self._base + sum(each.max(axis=0) for each in self._costs)
        """The most, R."""
        self._sums: list[Array] = []
        self._ways: list[Array] = []
        self._reach()
        totals = self._base + self._sums[0]
        inside = (totals <= self.limits).all(axis=1)
        if not inside.any():
            raise ConfigError("no architecture is within all budgets at once.")
        binding = self.limits < self.most
        if not binding.any():  # nothing to use up
            self.floors = np.minimum(self.least, self.limits)
            return
        reached = totals[inside]
        used = (reached / np.maximum(self.limits, 1))[:, binding].max(axis=1)
        share = min(least_used, float(used.max()))
        floors = np.minimum(np.ceil(share * self.limits), self.limits).astype(np.int64)
        self.floors = np.where(binding, floors, self.most + 1)
        """An architecture costs at least this of one resource or another, R.

        For a limit that does not bind, it is more than any architecture costs."""
        if not self.ways(0, self.nothing_spent(1)).any():
            # Rounding up went over the largest total that there is.
            self.floors = np.where(binding, reached[used.argmax()], self.most + 1)

    @property
    def unlimited(self) -> bool:
        """Whether every architecture is in the set."""
        return bool((self.limits >= self.most).all() and (self.floors <= self.least).any())

    def _reach(self) -> None:
        resources = len(self.limits)
        before = self._base.copy()  # the least that the slots before can cost
        cheapest = [before.copy()]
        for each in self._costs:
            before = before + each.min(axis=0)
            cheapest.append(before.copy())
        sums, ways = np.zeros((1, resources), dtype=np.int64), np.ones(1)
        self._sums, self._ways = [sums], [ways]
        for slot in range(len(self._costs) - 1, -1, -1):
            each = self._costs[slot]
            sums = (each[:, None, :] + sums[None, :, :]).reshape(-1, resources)
            ways = np.tile(ways, len(each))
            within = (cheapest[slot] + sums <= self.limits).all(axis=1)
            sums, ways = _thinned(sums[within], ways[within])
            if len(ways):
                ways = np.maximum(ways / ways.max(), _TINY)
            self._sums.insert(0, sums)
            self._ways.insert(0, ways)

    def pruned(self, limit: int) -> "FeasibleSet":
        """Return the set with another limit on the first resource; no resource has to be used up.

        Raises:
            ConfigError: no architecture is within all limits.
        """
        limits = [limit, *self.limits[1:].tolist()]
        return FeasibleSet(
            [each.tolist() for each in self._costs], self._base.tolist(), limits, least_used=0.0
        )

    def with_costs(self, resource: int, costs: Sequence[Sequence[int]], base: int) -> "FeasibleSet":
        """Return the set of the same limits where one resource has other costs.

        Args:
            resource: its number.
            costs: of each slot, the cost of each candidate.
            base: cost of all that lies outside the slots.

        Raises:
            ConfigError: no architecture is within all limits.
        """
        changed = [each.copy() for each in self._costs]
        for each, column in zip(changed, costs, strict=True):
            each[:, resource] = column
        bases = self._base.copy()
        bases[resource] = base
        return FeasibleSet(
            [each.tolist() for each in changed], bases.tolist(), self.limits.tolist(),
            least_used=self._least_used,
        )  # fmt: skip

    def resources(self) -> list[tuple[list[list[int]], int, int]]:
        """Return for each resource the costs by slot and candidate, the base and the limit."""
        return [
            ([each[:, r].tolist() for each in self._costs], int(self._base[r]), int(self.limits[r]))
            for r in range(len(self.limits))
        ]

    def cost(self, vector: Sequence[int]) -> Array:
        """Return what an architecture costs of each resource, R."""
        parts = [each[index] for each, index in zip(self._costs, vector, strict=True)]
        total: Array = self._base + sum(parts)
        return total

    def holds(self, vector: Sequence[int]) -> bool:
        """Return whether an architecture is within all limits."""
        return bool((self.cost(vector) <= self.limits).all())

    def used(self, vector: Sequence[int]) -> float:
        """Return the largest share of a binding limit that an architecture uses, or 0."""
        binding = self.limits < self.most
        shares = self.cost(vector) / np.maximum(self.limits, 1)
        return float(shares[binding].max(initial=0.0))

    def nothing_spent(self, count: int) -> Array:
        """Return what is spent before the first slot, ``count`` x R zeros."""
        return np.zeros((count, len(self.limits)), dtype=np.int64)

    def spent(self, slot: int, index_M: Array) -> Array:
        """Return what candidates of a slot cost, M x R."""
        spent: Array = self._costs[slot][index_M]
        return spent

    def ways(self, slot: int, spent_MR: Array) -> Array:
        """Return the ways in which each candidate of a slot leads into the set, M x V.

        The numbers are scaled, since they can be very large. Compare those of one slot only.

        Args:
            slot: number of the slot.
            spent_MR: what the choices for the slots before it cost.
        """
        at_MVR = self._base + spent_MR[:, None, :] + self._costs[slot]
        sums_PR, ways_P = self._sums[slot + 1], self._ways[slot + 1]
        if len(self.limits) == 1:  # the sums are in order
            running = np.concatenate([[0.0], np.cumsum(ways_P)])
            low = np.searchsorted(sums_PR[:, 0], self.floors - at_MVR[..., 0], side="left")
            high = np.searchsorted(sums_PR[:, 0], self.limits - at_MVR[..., 0], side="right")
            # The difference of large sums may vanish, a way does not.
            counted = np.maximum(running[np.maximum(high, low)] - running[low], _TINY)
            return np.where(high > low, counted, 0.0)
        ways_MV = np.empty(at_MVR.shape[:2])
        for sample, at_VR in enumerate(at_MVR):
            totals_VPR = at_VR[:, None, :] + sums_PR
            inside = (totals_VPR <= self.limits).all(-1) & (totals_VPR >= self.floors).any(-1)
            ways_MV[sample] = inside @ ways_P
        return ways_MV


def _thinned(sums_PR: Array, ways_P: Array) -> tuple[Array, Array]:
    """Return the different sums in order, at most so many, and the ways to each."""
    if not len(sums_PR):
        return sums_PR, ways_P
    different, ways = _merged(sums_PR, sums_PR, ways_P)
    if len(different) <= _MOST_SUMS:
        return different, ways
    bins = int(_MOST_SUMS ** (1 / sums_PR.shape[1]))
    low = different.min(axis=0)
    width = (different.max(axis=0) - low) // bins + 1
    return _merged((different - low) // width, different, ways)


def _merged(keys_PR: Array, sums_PR: Array, ways_P: Array) -> tuple[Array, Array]:
    """Return one sum of each key, in the order of the keys, and the ways to all of that key."""
    _, first, group = np.unique(keys_PR, axis=0, return_index=True, return_inverse=True)
    return sums_PR[first], np.bincount(group.ravel(), weights=ways_P)
