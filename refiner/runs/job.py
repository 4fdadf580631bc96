"""A job: what every stage of a run is given."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from torch import nn

from refiner.core.batches import first_sample
from refiner.core.contents import to_json
from refiner.core.deploy_forms import deploy_note
from refiner.core.errors import ModelError
from refiner.core.inputs import ExampleInput
from refiner.core.listeners import tracker
from refiner.core.progress import Progress
from refiner.core.thawing import NOTE, is_frozen, thawed
from refiner.core.types import DataModule, JsonDict, Loader, Provenance, StateDict
from refiner.data.loader_checks import check_loader, check_single_samples
from refiner.data.loaders import example_of, mixed, split_loader
from refiner.graph.model_kinds import check_kind
from refiner.runs.beginning import dropped_on_error, open_or_create
from refiner.runs.fingerprint import fingerprint
from refiner.runs.report_data import TEST, VALIDATION
from refiner.runs.report_making import origin_settings
from refiner.runs.run_folder import RunFolder
from refiner.runs.settled import check_example, settled
from refiner.runs.tracking import setting_texts
from refiner.training.devices import Devices, make_listener
from refiner.training.passes import length
from refiner.training.precision import check_weights
from refiner.training.task import Task, checked_task

Tests: TypeAlias = Mapping[str, Callable[[nn.Module], float]]
"""Further measures of a trained network, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a run is written, and what it notes of its origin."""

    out: str | os.PathLike[str] | None = None
    """The run's folder; None writes nothing."""
    resume: bool = False
    """Whether the folder holds a run to go on with."""
    progress: bool | Progress = True
    provenance: Provenance = field(default_factory=Provenance)
    tests: Tests = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    force: bool = False
    """Go on where the first look would stop a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A model, its task and data, and where they are computed and written."""

    model: nn.Module
    """The original; never changed."""
    task: Task
    example: ExampleInput
    """Example input of the model."""
    train_loader: Loader
    """Training batches of this process, as :meth:`Devices.loader` returned them."""
    val_loader: Loader
    """All validation batches of this process."""
    score_loader: Loader
    """The same samples in another random order each pass: rewards come from them."""
    test_loader: Loader | None = None
    """All test batches of this process, which no choice is made on; None without a test part."""
    devices: Devices
    progress: Progress
    seed: int
    output: Output
    sizes: Mapping[str, int]
    """Numbers of batches, for the report."""
    folder: RunFolder | None = None
    """None where nothing is written."""
    begun_with: Callable[[], JsonDict] = dict
    """Returns the fingerprint of the model, the task, the data and the example input."""

    @property
    def one(self) -> ExampleInput:
        """The first sample of the example input: costs are those of one sample."""
        return first_sample(self.example)

    @property
    def origin(self) -> JsonDict:
        """How the model was made and what it takes, for architecture.json."""
        return {**self.output.provenance, "example_input": to_json(self.example)}

    @property
    def report_loader(self) -> Loader:
        """The batches that the report's scores come from: the test part or, without it, all of the
        validation part."""
        return self.val_loader if self.test_loader is None else self.test_loader

    @property
    def scored_on(self) -> str:
        """The part of the data that :attr:`report_loader` gives."""
        return VALIDATION if self.test_loader is None else TEST

    def load_checkpoint(self, name: str) -> StateDict | None:
        """Return a checkpoint of the run's folder; None where there is none."""
        return None if self.folder is None else self.folder.load_checkpoint(name)

    def save_checkpoint(self, name: str, state: StateDict) -> None:
        """Write a checkpoint into the run's folder, where there is one."""
        if self.folder is not None and self.devices.is_main:
            self.folder.save_checkpoint(name, state)


def begin(
    model: nn.Module,
    loader: Loader | DataModule,
    val_loader: Loader | None,
    *,
    test_loader: Loader | None,
    task: Task | str,
    example_input: ExampleInput | None,
    seed: int,
    device: str,
    precision: str,
    out: str | os.PathLike[str] | None,
    resume: bool,
    progress: bool | Progress,
    provenance: Provenance | None,
    tests: Tests | None,
    notes: Sequence[str],
    force: bool,
) -> Job:
    """Return the job of what a caller of :func:`refiner.refine` gave; see :func:`set_up`."""
    given = settled(model, loader, val_loader, test_loader, task)
    output = Output(
        out=out, resume=resume, progress=progress, provenance=provenance or Provenance(),
        tests=tests or {}, notes=tuple(notes), force=force,
    )  # fmt: skip
    return set_up(
        given.model, given.train, given.val, test_loader=given.test, task=given.task,
        example_input=example_input, seed=seed, devices=Devices.choose(device, precision),
        output=output,
    )  # fmt: skip


def set_up(
    model: nn.Module,
    loader: Loader,
    val_loader: Loader | None,
    *,
    test_loader: Loader | None = None,
    task: Task | str,
    example_input: ExampleInput | None,
    seed: int,
    devices: Devices,
    output: Output,
) -> Job:
    """Check what the caller gave and make the job of it; nothing is written yet.

    Without ``val_loader`` a fifth of the training samples is split off.

    Raises:
        RefinerError: something does not work; the message names the next step.
    """
    checked = checked_task(task)
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model is a {type(model).__name__}. Give a torch.nn.Module.")
    progress = make_listener(output.progress, devices)
    check_weights(model)
    check_kind(model)
    given = {"training": loader, "validation": val_loader, "test": test_loader}
    for part, each in given.items():
        if each is not None:
            check_loader(each, part)
    if val_loader is None:
        loader, val_loader = split_loader(loader, seed)
    example = example_of(loader) if example_input is None else example_input
    if example_input is None:
        check_example(example, checked)
    check_single_samples(model, loader, example)
    devices = devices.suited_to(model, example, checked, loader)
    parts = {"training": loader, "validation": val_loader}
    if test_loader is not None:
        parts["test"] = test_loader
    val_loader = devices.held(val_loader)
    notes = [NOTE] if is_frozen(model) else []
    notes += [note for note in [deploy_note(model)] if note is not None]
    output = replace(output, notes=(*output.notes, *announce(notes, progress)))
    model = thawed(model)
    return Job(
        model=model,
        task=checked,
        example=example,
        train_loader=devices.loader(loader),
        val_loader=devices.loader(val_loader, even=False),
        score_loader=devices.loader(mixed(val_loader), even=False),
        test_loader=None if test_loader is None else devices.loader(test_loader, even=False),
        devices=devices,
        progress=progress,
        seed=seed,
        output=output,
        sizes={f"{part} batches": length(given) for part, given in parts.items()},
        begun_with=partial(fingerprint, model, checked, parts, example),
    )


@contextmanager
def in_folder(job: Job, settings: JsonDict) -> Iterator[Job]:
    """Give the job with its run's folder; drop that if the run fails before anything is done.

    Args:
        job: of the run.
        settings: for config.json; a run goes on only with equal ones.
    """
    output, main = job.output, job.devices.is_main
    folder = open_or_create(
        output.out, output.resume, settings, output.provenance, job.begun_with, main=main
    )
    with dropped_on_error(folder if main else None):
        origin = origin_settings(job.model, output.provenance)
        tracker(job.progress).settings(setting_texts(origin, settings))
        yield replace(job, folder=folder)


def announce(notes: Sequence[str], progress: Progress) -> tuple[str, ...]:
    """Show notes while the run goes on, and return them for the report."""
    for note in notes:
        progress.note(note)
    return tuple(notes)
