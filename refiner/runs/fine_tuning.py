"""The fine-tuning stage: networks trained with equal settings and the same teacher.

The original has itself as the teacher, so that what distillation adds is not counted
as the architecture's.
"""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from refiner.core.randomness import derive_seed
from refiner.core.types import StateDict
from refiner.runs.comparison import Baseline
from refiner.runs.job import Job
from refiner.runs.network_scores import ORIGINAL, REFINED
from refiner.runs.report_data import Trained
from refiner.runs.selection import Selection
from refiner.training.evaluation import run_tests
from refiner.training.loop import TrainConfig, TrainResult, train
from refiner.training.task import Task
from refiner.training.teacher import with_teacher


def fine_tune(
    job: Job, config: TrainConfig | None, selection: Selection
) -> tuple[Trained | None, tuple[Baseline, ...]]:
    """Train every network of a selection in place, one after the other, from one seed.

    Returns:
        The scores, and the baselines with theirs; nothing is trained without epochs.
    """
    if config is None or config.epochs == 0:
        return None, selection.baselines
    results, measured = {}, {}
    task = with_teacher(job.task, job.model, config.teacher_weight, job.devices.device)
    for name, network in selection.networks.items():
        results[name] = fine_tune_one(job, config, name, network, task)
        if name in (ORIGINAL, REFINED):
            measured[name] = run_tests(network, job.output.tests)
        network.zero_grad(set_to_none=True)
        network.cpu()
    tests = tuple(
        (name, measured[ORIGINAL][name], measured[REFINED][name]) for name in job.output.tests
    )
    trained = Trained(
        epochs=config.epochs,
        original=results[ORIGINAL].reported,
        refined=results[REFINED].reported,
        validation=results[REFINED].score,
        tests=tests,
    )
    of_baselines = ((each, results[selection.network_of(each)]) for each in selection.baselines)
    return trained, tuple(
        replace(each, trained=result.reported, validation=result.score)
        for each, result in of_baselines
    )


def fine_tune_one(
    job: Job,
    config: TrainConfig,
    name: str,
    network: nn.Module,
    task: Task,
    *,
    phase: str | None = None,
    on_epoch: Callable[[StateDict], None] = lambda _: None,
) -> TrainResult:
    """Train one network in place, from its checkpoint on, and score it.

    Args:
        job: of the run.
        config: how.
        name: of its checkpoint.
        network: is trained.
        task: the loss and the score.
        phase: name for progress; by default ``train NAME``.
        on_epoch: is called with the state after each epoch, before that is kept.
    """

    def keep(state: StateDict) -> None:
        on_epoch(state)
        job.save_checkpoint(name, state)

    return train(
        network,
        job.train_loader,
        job.val_loader,
        task,
        test_loader=job.test_loader,
        devices=job.devices,
        config=config,
        seed=derive_seed(job.seed, "final"),
        name=phase or f"train {name}",
        progress=job.progress,
        state=job.load_checkpoint(name),
        on_epoch=keep,
    )
