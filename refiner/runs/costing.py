"""The costs of a run's candidates, and the architectures that keep to its budgets."""

from dataclasses import dataclass, replace

from refiner.core.types import JsonDict
from refiner.cost.budget import Budget, within_budgets
from refiner.cost.budget_check import not_covered
from refiner.cost.costs import measure_cost
from refiner.cost.deployment import Deployment
from refiner.cost.feasible import FeasibleSet
from refiner.cost.latency_table import LatencyTable
from refiner.cost.reach import choose_space
from refiner.runs.job import Job, announce
from refiner.runs.run_folder import load_or_make
from refiner.runs.settings import Settings
from refiner.runs.timed_table import timed_table
from refiner.space.search_space import SearchSpace
from refiner.training.compared import uncompared_parts


@dataclass(frozen=True, slots=True, kw_only=True)
class CostedSpace:
    """A search space whose costs are known."""

    space: SearchSpace
    """Without candidates that are slower than the original, where latency is a budget."""
    feasible: FeasibleSet
    """The architectures that keep to all budgets."""
    latencies: LatencyTable | None
    """Milliseconds of every candidate; None without a latency budget."""
    latency_budget: Budget | None
    deployment: Deployment
    """What milliseconds are measured in."""
    notes: tuple[str, ...] = ()
    """For the report: what the budgets do not cover."""

    @property
    def limited(self) -> FeasibleSet | None:
        """The feasible set; None where every architecture is feasible."""
        return None if self.feasible.unlimited else self.feasible


def space_of_run(job: Job, settings: Settings) -> tuple[SearchSpace, tuple[str, ...]]:
    """Return the search space of a run, and notes on it for the report.

    Modules that no score of the run depends on stay as they are.

    Raises:
        ConfigError: there is no slot, or none of the layers that are named.
    """
    unseen, offer = uncompared_parts(job.task, job.model), settings.offer
    space, choice = choose_space(
        job.model,
        job.example,
        slots=settings.slots,
        trained=settings.trained,
        offer=replace(offer, skip=(*offer.skip, *unseen)),
    )
    notes = [choice] if choice else []
    if unseen:
        notes.append(f"nothing that is scored depends on {', '.join(unseen)}, which stays as it is")
    return space, announce(notes, job.progress)


def cost_space(job: Job, settings: Settings, space: SearchSpace) -> CostedSpace:
    """Return the costs of a space under the budgets of the settings.

    Latencies are measured once for a run, by the main process, and kept as latency.json.

    Raises:
        ConfigError: a budget is out of reach; the message names the least and the most.
    """
    budgets = settings.budgets
    timed = next((budget for budget in budgets if budget.resource == "latency"), None)
    latencies = None
    deployment = deployment_of(job, settings)
    if timed is not None:

        def measured() -> JsonDict:
            return timed_table(job, space, budgets, deployment).to_json()

        document = load_or_make(job.folder, "latency.json", measured, job.devices)
        latencies = LatencyTable.from_json(document)
        latencies.check(space)
    space, feasible = within_budgets(budgets, job.model, space, job.one, latencies)
    original = measure_cost(job.model, job.one, cross_check=False)
    return CostedSpace(
        space=space,
        feasible=feasible,
        latencies=latencies,
        latency_budget=timed,
        deployment=deployment,
        notes=announce(not_covered(budgets, original, space), job.progress),
    )


def deployment_of(job: Job, settings: Settings) -> Deployment:
    """Return the deployment that the settings of a run name.

    Raises:
        ConfigError: the runtime does not run on the device.
    """
    return Deployment.choose(
        job.example,
        runtime=settings.runtime,
        device=job.devices.device,
        precision=job.devices.precision,
        threads=settings.threads,
        batch=settings.latency_batch,
    )
