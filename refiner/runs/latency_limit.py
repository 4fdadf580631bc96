"""A latency budget that recommended architectures are measured by, before they are scored.

Each is timed as a whole network in turn with the original. The latency table learns from that, and
what it still predicts wrongly on average is added to all its predictions.
"""

import statistics
from collections.abc import Sequence

from torch import nn

from refiner.core.errors import ConfigError
from refiner.cost.budget import Budget, nanoseconds
from refiner.cost.deployment import Deployment
from refiner.cost.feasible import FeasibleSet
from refiner.cost.latency_table import LatencyTable
from refiner.cost.whole_latencies import anchored
from refiner.space.architecture import Vector
from refiner.space.search_space import SearchSpace
from refiner.training.devices import Devices

MARGIN = 0.01
"""Share of the budget that is kept free: the refined model is measured once more, by itself."""


class LatencyLimit:
    """A :class:`~refiner.search.measured_limit.MeasuredLimit` of milliseconds.

    Args:
        budget: of latency.
        resource: its number among the resources of ``feasible``.
        table: of the candidates.
        space: slots and candidates, as ``feasible`` counts them.
        feasible: what should keep to the budgets by the table.
        model: the original.
        deployment: runtime and batch.
        devices: of the run; its main process measures.
    """

    def __init__(
        self,
        budget: Budget,
        resource: int,
        table: LatencyTable,
        space: SearchSpace,
        feasible: FeasibleSet,
        model: nn.Module,
        deployment: Deployment,
        devices: Devices,
    ) -> None:
        self._budget, self._resource = budget, resource
        self._space, self._model, self._deployment = space, model, deployment
        self._devices = devices
        self.table, self.feasible = table, feasible
        self.shares: dict[Vector, float] = {}
        """Of the original's milliseconds, of each architecture that was measured."""

    def within(self, vectors: Sequence[Vector]) -> list[Vector]:
        """Measure architectures, each once; return those that keep to the budget, in order.

        Raises:
            ModelError: the runtime cannot hold one of them.
        """
        new = [vector for vector in dict.fromkeys(vectors) if vector not in self.shares]
        if new:
            self._measure(new)
        original = self.table.model.median
        most = (1 - MARGIN) * self._budget.most(original) / original
        return [vector for vector in vectors if self.shares[vector] <= most]

    def _measure(self, vectors: Sequence[Vector]) -> None:
        document = self._devices.from_main(
            lambda: anchored(
                self.table, self._space, vectors, self._model, self._deployment
            ).to_json()
        )
        self.table = LatencyTable.from_json(document)
        taken = self.table.anchors[-len(vectors) :]
        self.shares |= {v: a.share for v, a in zip(vectors, taken, strict=True)}
        self.feasible = self._corrected()

    def _corrected(self) -> FeasibleSet:
        """Return the set by all measurements; the last one if nothing would be left."""
        original = self.table.model.median
        offset = statistics.mean(
            share * original - self.table.predicted(self._space.architecture(vector)).median
            for vector, share in self.shares.items()
        )
        costs = [[nanoseconds(each.median) for each in row] for row in self.table.rows(self._space)]
        base = nanoseconds(original + offset) - sum(row[0] for row in costs)
        try:
            return self.feasible.with_costs(self._resource, costs, base)
        except ConfigError:
            return self.feasible
