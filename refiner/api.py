"""``refiner.refine``: a trained conv network made cheaper, in one call."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from refiner.core.inputs import ExampleInput
from refiner.core.progress import Progress
from refiner.core.types import DataModule, Loader, Provenance
from refiner.runs.costing import cost_space, space_of_run
from refiner.runs.fine_tuning import fine_tune
from refiner.runs.first_look import first_look
from refiner.runs.job import begin, in_folder
from refiner.runs.rehearsal import rehearse_run
from refiner.runs.result import Result
from refiner.runs.searching import make_search, run_search_stage
from refiner.runs.selection import select
from refiner.runs.settings import Settings
from refiner.runs.writing import finish
from refiner.training.task import Task


def refine(
    model: nn.Module,
    loader: Loader | DataModule,
    val_loader: Loader | None = None,
    *,
    test_loader: Loader | None = None,
    task: Task | str = "classification",
    example_input: ExampleInput | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | Progress = True,
    provenance: Provenance | None = None,
    tests: Mapping[str, Callable[[nn.Module], float]] | None = None,
    notes: Sequence[str] = (),
    force: bool = False,
    settings: Settings | None = None,
    **options: Any,
) -> Result:
    """Make ``model`` cheaper within a budget: search, rewrite, fine-tune, report.

    Args:
        model: any conv model; never changed.
        loader: training batches, of known number: a DataLoader, or any iterable with ``len()``. A
            LightningDataModule gives the other loaders too.
        val_loader: validation batches. Without it, a fifth of the training samples is split off.
        test_loader: test batches, which no choice is made on: the report's scores come from them.
            Without it they come from the validation batches and are optimistic.
        task: what a batch means: ``classification``, ``segmentation``, ``regression``,
            ``detection``, or your own. By default a LightningModule is trained by its own
            ``training_step``, and a detector of torchvision by its own losses.
        example_input: a tensor, or a tuple or mapping of them; by default from the first batch.
        out: folder for the run's files; must be new.
        resume: go on with the run in ``out``, which must have been made with the same settings.
        progress: True writes plain lines to stderr, or draws bars in a notebook; False nothing. Or
            a listener, such as ``refiner.Listeners(refiner.Lines(), refiner.TensorBoard("logs"))``.
        provenance: how the model was made, for config.json and architecture.json.
        tests: further measures of the fine-tuned networks by name, such as accuracy on other
            images. Each takes a network on the device in eval mode, gradients off.
        notes: lines for the report.
        force: go on where the first look at ``model`` and the data would stop the run.
        settings: in one object, instead of as ``options``.
        **options: the fields of :class:`refiner.Settings`, such as ``budget="macs=60%"``,
            ``distill=refiner.DistillConfig()`` or ``train=refiner.TrainConfig(epochs=10)``.

    Raises:
        RefinerError: something that the caller gave does not work; the message names the next step.
    """
    settings = Settings.of(options, settings).resolved()
    settings.check_tests(tests or {})
    job = begin(
        model, loader, val_loader, test_loader=test_loader, task=task,
        example_input=example_input, seed=settings.seed, device=settings.device,
        precision=settings.precision, out=out, resume=resume, progress=progress,
        provenance=provenance, tests=tests, notes=notes, force=force,
    )  # fmt: skip
    seen = first_look(job, trained=settings.trained)
    space, chosen = space_of_run(job, settings)
    job.progress.plan(settings.phases())
    with in_folder(job, settings.to_json(space)) as job:
        rehearsed = rehearse_run(job, settings, space)
        costed = cost_space(job, settings, space)
        search = make_search(job, settings, costed)
        checked = run_search_stage(job, settings, costed, search)
        costed = replace(costed, latencies=checked.table)
    notes = (*job.output.notes, *seen, *chosen, *rehearsed, *costed.notes, *checked.notes)
    selection = select(job, settings, costed, search, checked.found, notes)
    del search  # only the networks that are fine-tuned stay in memory
    trained, baselines = fine_tune(job, settings.train, selection)
    return finish(job, settings, costed, selection, trained, baselines, checked.latency)
