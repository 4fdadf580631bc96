"""The rehearsal: each step of a run once, before the search, so that mistakes show in seconds.

On throw-away copies of the original, with all random numbers restored: an evaluation on the first
and on the shortest validation batch, a training step with the teacher on the first and on the
shortest training batch, a timing where latency is a budget, the user's tests, and an export. So a
rehearsal takes as long as four batches and one export, and as the user's tests. It is left out
where a run goes on from a checkpoint.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from refiner.core.batches import inputs_of
from refiner.core.contents import tensors_in
from refiner.core.errors import ConfigError, DataError, ModelError, RefinerError, RunError
from refiner.core.progress import Silent
from refiner.core.randomness import derive_seed, seeded
from refiner.core.surgery import copied
from refiner.core.types import Batch, Loader
from refiner.cost.budget import within_budgets
from refiner.cost.deployment import Deployment
from refiner.data.loader_checks import sample_count
from refiner.data.loaders import generators_of
from refiner.exports.exporting import export
from refiner.runs.costing import deployment_of
from refiner.runs.job import Job, announce
from refiner.runs.sampling import first_batches, samples_in
from refiner.runs.settings import Settings
from refiner.runtimes.timing import Patience
from refiner.space.search_space import SearchSpace
from refiner.training.alone import Alone, waits_for_others
from refiner.training.evaluation import run_tests, sums_of
from refiner.training.loop import TrainConfig, WeightTrainer
from refiner.training.task import Task
from refiner.training.teacher import with_teacher

_NETWORKS = 4
"""Networks that are fine-tuned at most: the original, the refined one and two baselines."""


def rehearse_run(job: Job, settings: Settings, space: SearchSpace) -> tuple[str, ...]:
    """Rehearse a run of ``refine()``, and return notes for the report.

    Raises:
        RefinerError: a step of the run would fail; the message names the next step.
    """
    if _has_begun(job):
        return ()
    budgets = [budget for budget in settings.budgets if budget.resource != "latency"]
    if budgets:
        within_budgets(budgets, job.model, space, job.one, None)
    search = settings.search
    assert search is not None
    config = settings.train if settings.fine_tunes else None
    if config is None and search.train_weights and search.total_epochs:
        config = search.weights
    timed = len(budgets) < len(settings.budgets)
    deployment = deployment_of(job, settings) if timed else None
    return rehearse_network(job, job.model, config, deployment)


def rehearse_network(
    job: Job,
    network: nn.Module,
    config: TrainConfig | None,
    deployment: Deployment | None = None,
) -> tuple[str, ...]:
    """Rehearse what a run does with a network, and return notes for the report.

    Args:
        job: of the run.
        network: stands for those that the run will train; it stays as it is.
        config: how they are trained, with the original as teacher; None trains nothing.
        deployment: what latency is measured in; None measures none.

    Raises:
        RefinerError: a step of the run would fail; the message names the next step.
    """
    if _has_begun(job):
        return ()
    devices = Alone.of(job.devices)

    def steps() -> Sequence[str]:
        loaders = generators_of(job.train_loader, job.val_loader, job.test_loader)
        with seeded(derive_seed(job.seed, "rehearsal of a run"), loaders):
            _check_room(job, network)
            _evaluate(job, copied(network), devices)
            if config is not None and not waits_for_others(network, job.devices):
                _train(job, network, config, devices)
            if deployment is not None:
                _check_runtime(deployment, network)
            if job.output.tests:
                run_tests(devices.move(copied(network)), job.output.tests)
            return _export(job, network)

    return announce(job.devices.from_main(steps), job.progress)


def _has_begun(job: Job) -> bool:
    """Return whether a run goes on from a checkpoint; all processes read the same folder."""
    return job.output.resume and job.folder is not None and job.folder.holds("checkpoint")


def _check_runtime(deployment: Deployment, network: nn.Module) -> None:
    try:
        deployment.latencies([network], Patience(repeats=1, most=1, warm_up=1), copies=1)
    except ModelError as error:
        raise ModelError(
            f"{error} Milliseconds cannot be a budget there: choose another --runtime, such as "
            "eager."
        ) from error


def _check_room(job: Job, network: nn.Module) -> None:
    """Raise a RunError where the disk cannot hold the checkpoints: weights and momentum."""
    if job.folder is None:
        return
    size = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    needed = 2 * size * _NETWORKS
    free = shutil.disk_usage(job.folder.path).free
    if free < needed:
        raise RunError(
            f"{job.folder.path} is on a disk with {free / 1e6:,.0f} MB left, and the run needs "
            f"{needed / 1e6:,.0f} MB or more. Free some, or name another --out."
        )


def _evaluate(job: Job, network: nn.Module, devices: Alone) -> None:
    """Evaluate a network of ours on the first and the shortest batch of each part.

    No score is made of it: one of a single batch may be no number, as where it holds one class.
    """
    task = job.task
    if isinstance(task, nn.Module):
        task = copied(task).to(devices.device)  # type: ignore[assignment]
    devices.move(network)
    for name, loader in (("validation", job.val_loader), ("test", job.test_loader)):
        if loader is not None:
            _on_batches(
                name, loader, devices, lambda batch: sums_of(network, [batch], task, devices)
            )


def _train(job: Job, network: nn.Module, config: TrainConfig, devices: Alone) -> None:
    """Train a copy of a network for one step on the first and on the shortest batch."""
    ours = copied(network)
    task: Task = with_teacher(job.task, job.model, config.teacher_weight, devices.device)
    trainer = WeightTrainer(ours, task, devices, config, max(config.epochs, 1))
    _on_batches(
        "training", job.train_loader, devices, lambda batch: trainer.epoch([batch], 0, Silent())
    )
    if all(parameter.grad is None for parameter in ours.parameters()):
        raise ConfigError(
            f"{type(job.task).__name__}.loss gives the network no gradient. Compute it from the "
            "output of model(...)."
        )


def _on_batches(name: str, loader: Loader, devices: Alone, step: Callable[[Batch], object]) -> None:
    """Take a step on the first batch of a pass and on the shortest one; name the latter's trouble.

    Raises:
        RefinerError: of the step.
        DataError: the first batch works, and the shortest does not.
    """
    for i, batch in enumerate(first_batches(loader, devices)):
        try:
            _check_finite(name, batch)
            step(batch)
        except RefinerError as error:
            if not i:
                raise
            raise DataError(_short(name, loader, batch, error)) from error


def _check_finite(name: str, batch: Batch) -> None:
    """Raise a DataError for NaN or infinite values in a batch's inputs; a target may hold some."""
    try:
        inputs = inputs_of(batch)
    except DataError:  # of a task that reads its batches in its own way
        return
    if not all(bool(t.isfinite().all()) for t in tensors_in(inputs) if t.is_floating_point()):
        raise DataError(
            f"the inputs hold NaN or infinite values in a {name} batch. Remove or repair these "
            "samples."
        )


def _short(name: str, loader: Loader, batch: Batch, error: RefinerError) -> str:
    count, images = samples_in(batch), sample_count(loader)
    whole = f" ({images:,} samples in batches of {_size(loader)})" if images else ""
    cause = str(error).partition("Give inputs that fit")[0].strip().rstrip(".")
    return (
        f"the shortest {name} batch holds {count} {'sample' if count == 1 else 'samples'}{whole}, "
        f"and there {cause}. Leave it out (drop_last=True), or choose another --batch-size."
    )


def _size(loader: Loader) -> int:
    size: int = getattr(loader, "batch_size", 0) or 0
    return size


def _export(job: Job, network: nn.Module) -> Sequence[str]:
    """Export the network as the run will; return a note where that does not work."""
    if job.folder is None:
        return ()
    try:
        with tempfile.TemporaryDirectory() as folder:
            export(network, Path(folder) / "refined.ts", job.example)
    except ModelError as error:
        return (f"refined.ts will be missing: {error}",)
    return ()
