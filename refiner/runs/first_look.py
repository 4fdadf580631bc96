"""The first look: the original's score on the data as given, before any work.

It takes at most ``IMAGES`` validation images. Reading them and one pass over them take a few
seconds each, or as long as ``LEAST_IMAGES`` need. Copies are looked at, and all random numbers are
restored.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from refiner.core.errors import DataError, ModelError
from refiner.core.randomness import derive_seed, seeded
from refiner.core.surgery import copied
from refiner.core.types import Batch, JsonDict
from refiner.data.loader_checks import sample_count
from refiner.data.loaders import generators_of
from refiner.runs.job import Job
from refiner.runs.labels import check_labels
from refiner.runs.likely_cause import LEAST_IMAGES, Trial, likely_cause
from refiner.runs.look import Look, look_at
from refiner.runs.sampling import sample, samples_in
from refiner.training.alone import Alone, waits_for_others
from refiner.training.task import Task

IMAGES = 512
"""Most validation images that are looked at."""
_NORM_IMAGES = 256
"""Training images for BN recalibration."""
_SECONDS = 2.0
"""Time for a pass, where it takes more than ``LEAST_IMAGES``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLook:
    """What a first look found."""

    line: str
    """Score, number of images, classes, size and scale of the inputs."""
    cause: str | None
    """Why the network scores badly, with the next step."""
    images: int
    """How many were looked at."""
    facts: JsonDict
    """The same for JSON."""

    def fault(self) -> str | None:
        """Return the line and the cause in one, where there is a cause."""
        return None if self.cause is None else f"{self.line} But {self.cause}"


def first_look(job: Job, *, trained: bool, network: nn.Module | None = None) -> tuple[str, ...]:
    """Show the score of a network as given, and stop a run whose trained network scores badly.

    A run that is forced goes on, and one that is resumed: it went on before.

    Args:
        job: of the run.
        trained: whether the weights are trained; others are shown, and nothing stops.
        network: by default the original.

    Returns:
        Notes for the report: why the run would have stopped.

    Raises:
        DataError: the network is trained, and scores near chance or much better otherwise; or the
            data holds values or labels that no network can use.
        ModelError: the network's outputs are not finite.
    """
    found = job.devices.from_main(lambda: look_first(job, network or job.model, trained=trained))
    fault = found.cause
    if fault is not None and not (job.output.force or job.output.resume):
        raise DataError(f"{found.fault()}, or go on as it is (--force, force=True).")
    job.progress.note(found.line)
    if fault is None:
        return ()
    note = f"The first look would have stopped this run: {fault}."
    job.progress.note(note)
    return (note,)


def look_first(job: Job, network: nn.Module, *, trained: bool) -> FirstLook:
    """Look at a network without showing anything; the errors are those of :func:`first_look`."""
    devices = Alone.of(job.devices)
    loaders = generators_of(job.score_loader, job.train_loader)
    made: JsonDict = dict(job.output.provenance)
    with seeded(derive_seed(job.seed, "first look"), loaders):
        task = _ready(job.task, devices)
        batches: Sequence[Batch] = sample(
            job.score_loader, devices, images=IMAGES, least=LEAST_IMAGES
        )
        if not batches:
            raise DataError("the validation loader gave no batch. Give it data.")
        ours = devices.move(copied(network))
        batches = _in_time(ours, batches, task, devices)
        look = look_at(ours, batches, task, devices)
        check_labels(job, look)
        _check_finite(look)
        cause = None
        if trained and not isinstance(task, nn.Module):  # a task's own head is untrained
            norm_batches = sample(
                job.train_loader, devices, images=_NORM_IMAGES, least=_NORM_IMAGES // 4
            )
            cause = likely_cause(
                Trial(
                    network=ours,
                    task=task,
                    devices=devices,
                    batches=batches,
                    norm_batches=[] if waits_for_others(ours, job.devices) else norm_batches,
                    look=look,
                    preprocessing=made.get("preprocessing") or {},
                    new_head=bool((made.get("spec") or {}).get("pretrained")),
                )
            )
    return FirstLook(
        line=_line(job, look), cause=cause, images=look.images, facts=_facts(job, look, cause)
    )


def _ready(task: Task, devices: Alone) -> Task:
    """Return the task; one that is a module as a copy on the device."""
    if not isinstance(task, nn.Module):
        return task
    moved: Task = copied(task).to(devices.device)  # type: ignore[assignment]
    return moved


def _in_time(
    network: nn.Module, batches: Sequence[Batch], task: Task, devices: Alone
) -> Sequence[Batch]:
    """Return the first batches: as many as a short pass takes, with LEAST_IMAGES at the least."""
    begun = time.monotonic()
    look_at(network, batches[:1], task, devices)
    took = time.monotonic() - begun
    counts = itertools.accumulate(samples_in(batch) or 1 for batch in batches)
    least = next((i for i, n in enumerate(counts, 1) if n >= LEAST_IMAGES), len(batches))
    return batches[: max(least, round(_SECONDS / max(took, 1e-6)))]


def _check_finite(look: Look) -> None:
    if not look.finite_inputs:
        raise DataError(
            f"the inputs hold NaN or infinite values, in {look.images} validation images. Remove "
            "or repair these images."
        )
    if not look.finite_outputs:
        raise ModelError(
            f"the network as given has outputs that are NaN or infinite, on {look.images} "
            "validation images. Look at its weights, and at the scale of the inputs."
        )
    if not torch.isfinite(torch.tensor(look.score)):
        raise DataError(
            f"the score of the network as given is {look.score} on {look.images} validation "
            "images. Let the task's score be finite for any network."
        )


def _line(job: Job, look: Look) -> str:
    whole = sample_count(job.val_loader)
    of = f" of {whole:,}" if whole is not None and whole > look.images else ""
    parts = [f"The network as given: {job.task.metric} {look.score:.4f} on {look.images}{of}"]
    parts[0] += " validation images"
    if look.classes:
        parts.append(f"{look.classes} classes")
    if look.scale is not None:
        parts.append(str(look.scale))
    return f"{'; '.join(parts)}."


def _facts(job: Job, look: Look, cause: str | None) -> JsonDict:
    scale = look.scale
    return {
        "metric": job.task.metric,
        "score": look.score,
        "images": look.images,
        "classes": look.classes or None,
        "input": None
        if scale is None
        else {
            "shape": list(scale.shape),
            "least": float(scale.low.min()),
            "largest": float(scale.high.max()),
            "mean": scale.mean,
            "std": scale.std,
        },
        "cause": cause,
    }
