"""``refine eval``: what a first look says of a model, or of the refined model of a run."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

import refiner
from refiner.core.errors import RunError
from refiner.core.models import DRAWN, ModelSpec
from refiner.core.preprocessing import Preprocessing, preprocessing_of
from refiner.data.loader_checks import sample_count
from refiner.data.loaders import Data
from refiner.runs.first_look import look_first
from refiner.runs.job import Job, Output, set_up
from refiner.runs.network_scores import has_head
from refiner.runs.run_folder import RunFolder
from refiner.training.evaluation import evaluate
from refiner.training.task import Task

from .consent import Consent
from .declared import Given
from .finished import load_refined, run_architecture
from .options import readable_anywhere
from .preparing import origin
from .request import Request, RunRequest, TrainRequest, request_from
from .tables import say


def evaluate_model(request: RunRequest, *, as_json: bool) -> None:
    """Evaluate the model that a command names, with the data that it names."""
    job, trained, notes = model_job(request)
    _show(job, job.model, trained=trained, notes=notes, as_json=as_json)


def model_job(request: RunRequest) -> tuple[Job, bool, list[str]]:
    """Return the model that a command names with its data, whether it is trained, and notes."""
    source = request.source
    source.check()
    spec, model, data, task, _ = source.load()
    job = _job(request, model, data, task, spec)
    return job, spec.weights_from() != DRAWN, source.notes(data)


def evaluate_run(folder: Path, given: Given, *, consent: Consent, as_json: bool) -> None:
    """Evaluate the refined model of a run, by default on the run's data.

    Args:
        folder: of the run.
        given: options that replace those of the run, such as other data.
        consent: what the command line lets it run.
        as_json: print JSON.

    Raises:
        RunError: the run has not ended, Python code made it, or it names code of the user's own.
    """
    found = run_networks(folder, given, consent=consent, command="refine eval", weights=False)
    _show(found.job, found.refined, trained=True, notes=found.notes, as_json=as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNetworks:
    """The networks of a run that has ended, with its data."""

    job: Job
    """Of the refined network."""
    original: nn.Module
    refined: nn.Module
    preprocessing: Preprocessing | None
    """How pictures become inputs, as the run keeps it."""
    notes: list[str]
    """On the data, for people."""


def run_networks(
    folder: Path, given: Given, *, consent: Consent, command: str, weights: bool
) -> RunNetworks:
    """Build the networks of a run again, and load its data.

    Args:
        folder: of the run.
        given: options that replace those of the run.
        consent: what the command line lets it run.
        command: that the user typed, without the folder.
        weights: whether the original gets its weights.

    Raises:
        RunError: as for :func:`evaluate_run`.
    """
    run = RunFolder.open(folder)
    architecture, made = run_architecture(run, "Use refiner.rewrite there.")
    request = _kept(run, folder, command)
    request = replace(request, given={**request.given, **readable_anywhere(given)}).trusting(
        consent.trust_weights
    )
    wanted = {option or "--model": source for option, source in request.sources.items()}
    with consent.given(folder, wanted, f"{command} {folder}"):
        source = replace(request.source, verify=(), prepared_by=(str(folder),))
        kept = ModelSpec.from_json(made["spec"], folder, named=consent.sources, trust=consent.trust)
        source = replace(source, arguments=kept.arguments)
        if not weights:  # published weights of torchvision change the network
            published = source.pretrained and not source.model.startswith("timm:")
            source = replace(source, weights=None, pretrained=published)
        source.check()
        spec, model, data, task, _ = source.load()
        refined = load_refined(refiner.rewrite(model, architecture), folder)
    job = _job(request, refined, data, task, spec)
    return RunNetworks(
        job=job,
        original=model,
        refined=refined,
        preprocessing=preprocessing_of(made),
        notes=source.notes(data),
    )


def _kept(run: RunFolder, folder: Path, command: str) -> Request:
    """Return the request that a run's folder keeps, of either command."""
    provenance = run.config().get("provenance")
    kept = provenance.get("command") if isinstance(provenance, dict) else None
    if not isinstance(kept, dict):
        instead = "Use refiner.export and refiner.exports.int8.quantize there."
        if command != "refine export":
            instead = f"Give its model and weights: {command} MODEL --weights FILE --data DATA."
        raise RunError(
            f"{folder} does not say what data it had, since no command made it. {instead}"
        )
    kind = TrainRequest if kept.get("name") == "train" else RunRequest
    return request_from(kind, kept, folder)


def _job(request: Request, model: nn.Module, data: Data, task: Task, spec: ModelSpec) -> Job:
    return set_up(
        model, data.train, data.val, test_loader=data.test, task=task, example_input=None,
        seed=request.given.get("seed", 0), devices=request.devices(),
        output=Output(progress=False, provenance=origin(spec, {}, data)),
    )  # fmt: skip


def _show(job: Job, network: nn.Module, *, trained: bool, notes: list[str], as_json: bool) -> None:
    """Print what a first look finds, and the score on the whole of each part."""
    found = job.devices.from_main(lambda: look_first(job, network, trained=trained))
    whole = {} if has_head(job.task) else _whole(job, network, found.images)
    if not job.devices.is_main:
        return
    if as_json:
        print(json.dumps({**found.facts, "parts": whole, "notes": notes}))
        return
    for note in notes:
        say(note)
    say(found.line)
    for name, score in whole.items():
        say(f"On all {name} images: {job.task.metric} {score:.4f}.")
    if found.cause is not None:
        say(f"But {found.cause}.")


def _whole(job: Job, network: nn.Module, seen: int) -> dict[str, float]:
    """Return the scores on the parts that the first look did not see whole, by their names."""
    loaders = {"test": job.test_loader}
    if sample_count(job.val_loader) != seen:
        loaders = {"validation": job.val_loader, **loaders}
    return {
        name: evaluate(
            job.devices.move(network), job.devices.batches(loader), job.task, job.devices
        )
        for name, loader in loaders.items()
        if loader is not None
    }
