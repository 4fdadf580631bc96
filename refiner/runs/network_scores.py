"""Scores of whole networks before any fine-tuning, on the images of the report."""

from collections.abc import Mapping

from torch import nn

from refiner.core.randomness import derive_seed, seeded
from refiner.data.loaders import generators_of
from refiner.runs.job import Job
from refiner.training.detection_task import Detection
from refiner.training.evaluation import evaluate
from refiner.training.lightning_task import LightningLoss
from refiner.training.task import Task

GIVEN, ORIGINAL, REFINED = "original as given", "original", "refined"
"""Names of networks, beside the kinds of the baselines: the caller's model, whose norms are not
recalibrated, its copy that may be fine-tuned, and the refined network."""


def has_head(task: Task) -> bool:
    """Return whether a task has weights of its own, which are trained along with the network."""
    return isinstance(task, nn.Module) and any(True for _ in task.parameters())


def scores_outputs(task: Task) -> bool:
    """Return whether a score needs outputs and targets alone, so that an export has one too.

    An export of a detector takes images of one number and size, and their boxes vary in number.
    """
    return not has_head(task) and not isinstance(task, LightningLoss | Detection)


def score_network(job: Job, network: nn.Module, task: Task) -> float:
    """Return a network's score, each sample counted once, and leave all random numbers alone."""
    loader = job.report_loader
    with seeded(derive_seed(job.seed, "given"), generators_of(loader)):
        batches = job.devices.batches(loader)
        return evaluate(job.devices.move(network), batches, task, job.devices)


def score_networks(job: Job, task: Task, networks: Mapping[str, nn.Module]) -> dict[str, float]:
    """Return the scores of networks by name, after one pass for each."""
    job.progress.begin("scores", len(networks))
    scores = {}
    for name, network in networks.items():
        scores[name] = score_network(job, network, task)
        job.progress.advance(1, **{f"{job.scored_on} {task.metric}": scores[name]})
    job.progress.end()
    return scores
