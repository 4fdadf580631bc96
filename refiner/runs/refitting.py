"""The refit stage: the networks of a search follow the original, before any fine-tuning."""

from collections.abc import Mapping

from torch import nn

from refiner.core.surgery import copied
from refiner.distill.refit import RefitConfig, refit
from refiner.runs.job import Job, announce
from refiner.runs.settings import Settings
from refiner.search.search import Search
from refiner.space.search_space import SearchSpace
from refiner.training.task import Task


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
        _refit(job, settings.refit, space, network, agreement.teacher, search.task)
        job.save_checkpoint(f"{name}_refitted", {"network": network.state_dict()})
    job.progress.end()
    return ()


def refit_kept(job: Job, config: RefitConfig, space: SearchSpace, network: nn.Module) -> nn.Module:
    """Return a network of a search that has ended, refitted as those of its run were.

    Args:
        job: of the same model, data and seed as the run.
        config: of the run.
        space: the search space.
        network: with the weights that the search left; it stays as it is.

    Raises:
        ConfigError: its output cannot be compared with the original's.
    """
    network = copied(network)
    job.progress.begin("refit", config.steps)
    original = job.devices.move(copied(job.model)).eval()
    _refit(job, config, space, network, original, job.task)
    job.progress.end()
    return network.cpu()


def _refit(
    job: Job,
    config: RefitConfig,
    space: SearchSpace,
    network: nn.Module,
    original: nn.Module,
    task: Task,
) -> None:
    refit(
        network,
        original,
        space,
        job.train_loader,
        task,
        devices=job.devices,
        config=config,
        seed=job.seed,
        progress=job.progress,
    )
