"""The latency table of a run, corrected around its budgets.

What a swap saves depends a little on the other swaps. So the table is asked for architectures that
use the budgets up, some of them are timed as whole networks, and the table learns from these.
"""

from collections.abc import Sequence

from torch import nn

from refiner.core.errors import ConfigError
from refiner.core.inputs import ExampleInput
from refiner.core.progress import Progress
from refiner.cost.budget import Budget, within_budgets
from refiner.cost.deployment import Deployment
from refiner.cost.latency_cache import LatencyCache
from refiner.cost.latency_table import LatencyTable
from refiner.cost.slot_latencies import ANCHORS, latency_table
from refiner.cost.whole_latencies import anchored
from refiner.runs.job import Job
from refiner.search.random_search import RandomStrategy
from refiner.space.search_space import SearchSpace

ROUNDS, NETWORKS = 2, 6
"""How often the table is corrected, and by how many networks each time."""


def timed_table(
    job: Job, space: SearchSpace, budgets: Sequence[Budget], deployment: Deployment
) -> LatencyTable:
    """Measure the candidates of a space in a runtime, and whole networks around the budgets.

    A table by which no architecture is within the budgets is not corrected.

    Raises:
        ModelError: the runtime cannot hold the model.
    """
    job.progress.begin("latency", len(space.slots) + ANCHORS + ROUNDS * NETWORKS)
    cache = LatencyCache(deployment.conditions)
    table = latency_table(space, job.model, deployment, cache=cache, progress=job.progress)
    table = around_budgets(
        table, space, budgets, job.model, job.one, deployment, progress=job.progress
    )
    job.progress.end()
    return table


def around_budgets(
    table: LatencyTable,
    space: SearchSpace,
    budgets: Sequence[Budget],
    model: nn.Module,
    one: ExampleInput,
    deployment: Deployment,
    *,
    progress: Progress | None = None,
) -> LatencyTable:
    """Return a table that also goes by whole networks around the budgets.

    Args:
        table: of the space.
        space: slots and candidates.
        budgets: all of the run.
        model: the original.
        one: one sample of its input.
        deployment: runtime and batch.
        progress: listener, whose phase has begun; it advances by one for each network.
    """
    for turn in range(ROUNDS):
        try:
            within, feasible = within_budgets(budgets, model, space, one, table)
        except ConfigError:
            return table
        drawn = RandomStrategy(within.candidates, seed=turn, feasible=feasible).ask(NETWORKS)
        vectors = list(dict.fromkeys(drawn))
        table = anchored(table, within, vectors, model, deployment, progress=progress)
    return table
