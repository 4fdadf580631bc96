"""The refit stage: the networks of a search follow the original, before any fine-tuning."""

from collections.abc import Mapping

from torch import nn

from refiner.distill.refit import refit
from refiner.runs.job import Job, announce
from refiner.runs.settings import Settings
from refiner.search.search import Search
from refiner.space.search_space import SearchSpace


def refit_networks(
    job: Job,
    settings: Settings,
    space: SearchSpace,
    search: Search,
    networks: Mapping[str, nn.Module],
) -> tuple[str, ...]:
    """Refit networks of a distilled search in place, each kept in the run's folder when done.

    Networks whose outputs cannot be compared with the original's stay as they are.

    Args:
        job: of the run.
        settings: of the run.
        space: the search space.
        search: that has ended.
        networks: by name, without the original.

    Returns:
        Notes for the report.
    """
    if not settings.refits:
        return ()
    agreement = search.scorer.agreement
    if agreement is None:
        note = (
            "the chosen network was not refitted, since its output cannot be compared with the "
            "original's"
        )
        return announce([note], job.progress)
    job.progress.begin("refit", settings.refit.steps * len(networks))
    for name, network in networks.items():
        state = job.load_checkpoint(f"{name}_refitted")
        if state is not None:
            network.load_state_dict(state["network"])
            job.progress.advance(settings.refit.steps)
            continue
        refit(
            network,
            agreement.teacher,
            space,
            job.train_loader,
            search.task,
            devices=job.devices,
            config=settings.refit,
            seed=job.seed,
            progress=job.progress,
        )
        job.save_checkpoint(f"{name}_refitted", {"network": network.state_dict()})
    job.progress.end()
    return ()
