"""Trains an architecture on other data than its search had, such as the whole of a proxy task."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from torch import nn

from refiner.core.batches import first_sample
from refiner.core.errors import ConfigError
from refiner.core.inputs import ExampleInput
from refiner.core.listeners import tracker
from refiner.core.progress import Progress
from refiner.core.types import DataModule, JsonDict, Loader, Provenance, StateDict
from refiner.core.weights import load_weights
from refiner.runs.fine_tuning import fine_tune_one
from refiner.runs.first_look import first_look
from refiner.runs.job import Job, begin, in_folder
from refiner.runs.network_scores import has_head, score_network
from refiner.runs.rehearsal import rehearse_network
from refiner.runs.report import Report
from refiner.runs.report_data import Trained
from refiner.runs.report_making import cost_report, origin_settings
from refiner.runs.result import Result
from refiner.runs.result_files import write_result
from refiner.runs.tracking import report_figures
from refiner.space.architecture import Architecture, with_model
from refiner.space.rewriting import rewrite
from refiner.space.search_space import SearchSpace, offered_space, space_of
from refiner.training.evaluation import run_tests
from refiner.training.loop import TrainConfig, TrainResult
from refiner.training.task import Task
from refiner.training.teacher import with_teacher


def train_architecture(
    model: nn.Module,
    loader: Loader | DataModule,
    val_loader: Loader | None = None,
    *,
    test_loader: Loader | None = None,
    architecture: Architecture | None = None,
    weights: str | os.PathLike[str] | None = None,
    trust_weights: bool = False,
    task: Task | str = "classification",
    example_input: ExampleInput | None = None,
    config: TrainConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "no",
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | Progress = True,
    provenance: Provenance | None = None,
    tests: Mapping[str, Callable[[nn.Module], float]] | None = None,
    notes: Sequence[str] = (),
    force: bool = False,
    original: Report | None = None,
) -> Result:
    """Train ``model``, rewritten to ``architecture``, and report; nothing is searched.

    The data may differ from that of the search (sections 4.1.4 and 4.2.2 of the paper). Arguments
    that are not listed here are those of :func:`refiner.refine`.

    Args:
        model: the original; never changed. Operations that the architecture keeps begin with its
            weights.
        loader: training batches.
        val_loader: validation batches; without it a fifth of the training samples.
        architecture: by default the zero vector, which is ``model`` itself.
        weights: file of weights of the rewritten network, to begin with.
        trust_weights: whether to unpickle objects in it, which can run code of whoever made it.
        config: how long and how; its ``teacher_weight`` makes ``model`` the teacher.
        original: the report of the original, trained by this function with the same config and
            data. Its scores then stand beside those of the rewritten network.

    Returns:
        The trained network and its report, without a search.

    Raises:
        RefinerError: something that the caller gave does not work; the message names the next step.
    """
    config = config or TrainConfig()
    job = begin(
        model, loader, val_loader, test_loader=test_loader, task=task,
        example_input=example_input, seed=seed, device=device, precision=precision, out=out,
        resume=resume, progress=progress, provenance=provenance, tests=tests, notes=notes,
        force=force,
    )  # fmt: skip
    before = _scores(original, config, job)
    space, architecture = _space_and_architecture(job, architecture)
    network = rewrite(job.model, architecture, seed=seed)
    if weights is not None:
        load_weights(network, weights, trust=trust_weights)
    settings = {
        "vector": list(architecture.vector),
        "weights": None if weights is None else str(weights),
        "train": asdict(config),
        "seed": seed,
        "precision": precision,
    }
    has_teacher = config.teacher_weight > 0  # a teacher that scores at chance is of no use
    seen = first_look(job, trained=has_teacher, network=None if has_teacher else network)
    with in_folder(job, settings) as job:
        notes = rehearse_network(job, network, config if config.epochs else None)
        start = None
        if weights is not None and not has_head(job.task):
            start = score_network(job, network, job.task)
        result = _train(job, config, network)
    measured = run_tests(network, job.output.tests)
    trained = Trained(
        epochs=config.epochs,
        original=before.get(job.task.metric),
        refined=result.reported,
        validation=result.score,
        tests=tuple((name, before.get(name), value) for name, value in measured.items()),
    )
    return _finish(job, settings, space, architecture, network, trained, start, (*seen, *notes))


def _space_and_architecture(
    job: Job, architecture: Architecture | None
) -> tuple[SearchSpace, Architecture]:
    """Return the space with this job's shapes and the architecture; by default the zero vector."""
    if architecture is None:
        space = offered_space(job.model, job.example)  # without a slot it is trained all the same
        vector = (0,) * len(space.slots)
    else:
        space, vector = space_of(architecture, job.model, job.example), architecture.vector
    return space, with_model(space.architecture(vector), job.origin)


def _train(job: Job, config: TrainConfig, network: nn.Module) -> TrainResult:
    """Train the network and write a line of metrics.jsonl for each epoch."""
    state = job.load_checkpoint("train")
    if job.folder is not None:
        job.folder.forget_after(0 if state is None else state["epoch"])

    def record(state: StateDict) -> None:
        if job.folder is not None and job.devices.is_main:
            job.folder.record(
                {"epoch": state["epoch"], "phase": "train", "loss": state["losses"][-1]}
            )

    task = with_teacher(job.task, job.model, config.teacher_weight, job.devices.device)
    return fine_tune_one(job, config, "train", network, task, phase="train", on_epoch=record)


def _finish(
    job: Job,
    settings: JsonDict,
    space: SearchSpace,
    architecture: Architecture,
    network: nn.Module,
    trained: Trained,
    start: float | None,
    notes: Sequence[str],
) -> Result:
    """Return the result, and write its files where the run has a folder."""
    network = network.cpu().eval()
    shown = origin_settings(job.model, job.output.provenance)
    shown |= {"seed": settings["seed"], "precision": settings["precision"]}
    if settings["weights"] is not None:
        shown["weights to begin with"] = settings["weights"]
    shown |= {key: str(value) for key, value in job.sizes.items()}
    shown |= {f"train.{key}": value for key, value in settings["train"].items()}
    costs = cost_report(
        job.model, network, space, architecture, first_sample(job.example), devices=job.devices
    )
    report = replace(
        costs,
        metric=job.task.metric,
        scored_on=job.scored_on,
        refined_score=start,
        trained=trained,
        settings=tuple((key, str(value)) for key, value in shown.items()),
        notes=(*job.output.notes, *notes, *costs.notes),
    )
    if job.folder is not None and job.devices.is_main:
        write_result(
            job.folder, original=job.model, space=space, model=network, architecture=architecture,
            report=report, example_input=job.example,
        )  # fmt: skip
    tracker(job.progress).result(report_figures(report))
    return Result(
        model=network, architecture=architecture, report=report, search=None,
        example_input=job.example,
    )  # fmt: skip


def _scores(report: Report | None, config: TrainConfig, job: Job) -> dict[str, float]:
    """Return the scores of the original by name, none without its report.

    Raises:
        ConfigError: the report is not of the original, trained with this config.
    """
    if report is None:
        return {}
    trained, task = report.trained, job.task
    weight = dict(report.settings).get("train.teacher_weight", str(config.teacher_weight))
    if any(report.vector):
        fault = "of a rewritten network"
    elif trained is None:
        fault = "of a network that was not trained"
    elif trained.epochs != config.epochs:
        fault = f"of {trained.epochs} epochs of training, not {config.epochs}"
    elif weight != str(config.teacher_weight):
        fault = f"with a teacher weight of {weight}, not {config.teacher_weight}"
    elif report.scored_on != job.scored_on:
        fault = f"of the {report.scored_on} images, not the {job.scored_on} images"
    elif report.metric != task.metric:
        fault = f"of another score: {report.metric}, not {task.metric}"
    else:
        return {report.metric: trained.refined, **{name: v for name, _, v in trained.tests}}
    raise ConfigError(
        f"the report given as original is {fault}. Give that of the original, trained with equal "
        "settings."
    )
