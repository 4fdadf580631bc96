"""The refit stage: the networks of a search follow the original, before any fine-tuning."""

import math
from collections.abc import Mapping, Sequence

from torch import nn

from refiner.core.errors import TrainingError
from refiner.core.randomness import derive_seed, seeded
from refiner.core.surgery import copied
from refiner.data.loaders import generators_of
from refiner.distill.refit import RefitConfig, refit
from refiner.runs.job import Job, announce
from refiner.runs.network_scores import REFINED
from refiner.runs.settings import Settings
from refiner.search.search import Search
from refiner.space.search_space import SearchSpace
from refiner.training.agreement import Agreement
from refiner.training.evaluation import evaluate_both


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
        Notes for the report, on the refined network.
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
    undone: dict[str, Sequence[str]] = {}
    job.progress.begin("refit", settings.refit.steps * len(networks))
    for name, network in networks.items():
        state = job.load_checkpoint(f"{name}_refitted")
        if state is not None:
            network.load_state_dict(state["network"])
            undone[name] = state.get("undone", ())
            job.progress.advance(settings.refit.steps)
            continue
        undone[name] = _refit(job, settings.refit, space, network, agreement)
        state = {"network": network.state_dict(), "undone": list(undone[name])}
        job.save_checkpoint(f"{name}_refitted", state)
    job.progress.end()
    notes = [
        f"a part of the refit was undone: {part} brought the refined network no nearer to the "
        "original on the validation images"
        for part in undone.get(REFINED, ())
    ]
    return announce(notes, job.progress)


def refit_kept(
    job: Job, config: RefitConfig, space: SearchSpace, network: nn.Module
) -> tuple[nn.Module, tuple[str, ...]]:
    """Refit a network of a search that has ended as those of its run were.

    Args:
        job: of the same model, data and seed as the run.
        config: of the run.
        space: the search space.
        network: with the weights that the search left; it stays as it is.

    Returns:
        The refitted network, and the parts of the refit that were undone.

    Raises:
        ConfigError: its output cannot be compared with the original's.
    """
    network = copied(network)
    job.progress.begin("refit", config.steps)
    original = job.devices.move(copied(job.model)).eval()
    undone = _refit(job, config, space, network, Agreement(job.task, original))
    job.progress.end()
    return network.cpu(), undone


def _refit(
    job: Job, config: RefitConfig, space: SearchSpace, network: nn.Module, agreement: Agreement
) -> tuple[str, ...]:
    """Refit a network, and return the parts that the validation images are none the better for."""

    def judge(network: nn.Module) -> float:
        batches = job.devices.batches(job.val_loader)
        with seeded(derive_seed(job.seed, "judge"), generators_of(job.val_loader)):
            try:
                ((reached, _),) = evaluate_both([lambda: network], batches, agreement, job.devices)
            except TrainingError:  # not finite
                return -math.inf
        return reached

    return refit(
        network,
        agreement.teacher,
        space,
        job.train_loader,
        agreement.task,
        devices=job.devices,
        config=config,
        seed=job.seed,
        progress=job.progress,
        judge=judge,
    )
