"""A latency budget that recommended architectures are measured by, before they are scored.

Each is timed as a whole network in turn with the original. The latency table learns from that, and
what it still predicts wrongly on average is added to all its predictions. A run's folder keeps what
was measured, so that a run which goes on knows it.
"""

import statistics
from collections.abc import Sequence

from torch import nn

from refiner.core.errors import ArchitectureError, ConfigError, ModelError, RunError, one_line
from refiner.cost.budget import Budget, nanoseconds
from refiner.cost.deployment import Deployment
from refiner.cost.feasible import FeasibleSet
from refiner.cost.latency_table import LatencyTable
from refiner.cost.whole_latencies import anchor_of, anchored, with_anchors
from refiner.runs.run_folder import RunFolder
from refiner.space.architecture import Vector
from refiner.space.search_space import SearchSpace
from refiner.training.devices import Devices

MARGIN = 0.01
"""Share of the budget that is kept free: the refined model is measured once more, by itself."""
_FILE = "latency_measured.json"
_NEVER = float("inf")
"""The share of the budget that an architecture uses which the runtime cannot hold."""


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
        folder: of the run; it keeps what was measured.

    Raises:
        RunError: the folder's latency_measured.json is damaged.
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
        folder: RunFolder | None = None,
    ) -> None:
        self._resource, self._space, self._model = resource, space, model
        self._deployment, self._devices, self._folder = deployment, devices, folder
        most = budget.most(table.model.median)
        self._kept_free, self._allowed = MARGIN * most, (1 - MARGIN) * most
        self.table = table
        self.used: dict[Vector, float] = {}
        """Of what the budget allows with the margin, by each architecture that was measured."""
        self.feasible = feasible
        self._load()
        self.feasible = self._corrected()

    def within(self, vectors: Sequence[Vector]) -> list[Vector]:
        """Measure architectures, each once; return those that keep to the budget, in order.

        One that the runtime cannot hold does not keep to it.
        """
        new = [vector for vector in dict.fromkeys(vectors) if vector not in self.used]
        if new:
            self._measure(new)
            self.feasible = self._corrected()
            self._save()
        return [vector for vector in vectors if self.used[vector] <= 1]

    def _measure(self, vectors: Sequence[Vector]) -> None:
        def measured() -> LatencyTable | None:
            try:
                return anchored(self.table, self._space, vectors, self._model, self._deployment)
            except ModelError:
                return None

        table = self._devices.from_main(measured)
        if table is None:
            for vector in vectors:
                if len(vectors) > 1:
                    self._measure([vector])
                else:
                    self.used[vector] = _NEVER
            return
        self.table = table
        for vector, anchor in zip(vectors, table.anchors[-len(vectors) :], strict=True):
            self.used[vector] = anchor.share * table.model.median / self._allowed

    def _save(self) -> None:
        if self._folder is not None and self._devices.is_main:
            # Infinity is no JSON.
            used = [[list(v), each if each < _NEVER else None] for v, each in self.used.items()]
            self._folder.write_json(_FILE, {"used": used})

    def _load(self) -> None:
        """Take what an earlier part of the run measured."""
        if self._folder is None or not self._folder.holds(_FILE):
            return
        document = self._folder.read_json(_FILE)
        try:
            self.used = {
                tuple(vector): _NEVER if used is None else float(used)
                for vector, used in document["used"]
            }
            known = [
                anchor_of(
                    self._space.architecture(vector), used * self._allowed / self.table.model.median
                )
                for vector, used in self.used.items()
                if used < _NEVER
            ]
        except (KeyError, TypeError, ValueError, ArchitectureError) as error:
            raise RunError(
                f"{_FILE} is damaged, or belongs to another run: {one_line(error)}. Delete it to "
                "measure again."
            ) from error
        self.table = with_anchors(self.table, [*self.table.anchors, *known])

    def _corrected(self) -> FeasibleSet:
        """Return the set by all measurements; the last one if nothing would be left."""
        original = self.table.model.median
        missing = [
            used * self._allowed - self.table.predicted(self._space.architecture(vector)).median
            for vector, used in self.used.items()
            if used < _NEVER
        ]
        offset = (statistics.mean(missing) if missing else 0.0) + self._kept_free
        costs = [[nanoseconds(each.median) for each in row] for row in self.table.rows(self._space)]
        base = nanoseconds(original + offset) - sum(row[0] for row in costs)
        try:
            return self.feasible.with_costs(self._resource, costs, base)
        except ConfigError:
            return self.feasible
