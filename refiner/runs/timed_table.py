"""The latency table of a run, corrected around its budgets.

What a swap saves depends a little on the other swaps. So the table is asked for architectures that
use the budgets up, some of them are timed as whole networks, and the table learns from these.
"""

from collections.abc import Sequence

from refiner.core.errors import ConfigError
from refiner.cost.budget import Budget, within_budgets
from refiner.cost.deployment import Deployment
from refiner.cost.latency_table import LatencyTable
from refiner.cost.slot_latencies import latency_table
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
    table = latency_table(space, job.model, deployment, progress=job.progress)
    for turn in range(ROUNDS):
        try:
            within, feasible = within_budgets(budgets, job.model, space, job.one, table)
        except ConfigError:
            return table
        drawn = RandomStrategy(within.candidates, seed=turn, feasible=feasible).ask(NETWORKS)
        table = anchored(table, within, list(dict.fromkeys(drawn)), job.model, deployment)
    return table
