"""Train an architecture on data of its own: how one found on a proxy task goes to the whole task."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from refiner.core.errors import ConfigError
from refiner.core.inputs import first_sample, to_json
from refiner.core.models import load_weights
from refiner.core.progress import Progress
from refiner.core.randomness import derive_seed, seeded
from refiner.data.loaders import example_of, generators_of, split_loader
from refiner.runs.report import Report
from refiner.runs.report_data import Trained
from refiner.runs.report_making import cost_report, origin_settings
from refiner.runs.result import Result
from refiner.runs.result_files import write_result
from refiner.runs.run_folder import dropped_on_error, open_or_create
from refiner.space.architecture import Architecture, with_model
from refiner.space.rewriting import rewrite
from refiner.space.search_space import offered_space, space_of
from refiner.training.devices import Devices, make_listener
from refiner.training.evaluation import evaluate, length, run_tests
from refiner.training.loop import TrainConfig, train
from refiner.training.task import Task, checked_task
from refiner.training.teacher import with_teacher


def train_architecture(
    model: nn.Module,
    loader: Any,
    val_loader: Any = None,
    *,
    architecture: Architecture | None = None,
    weights: str | os.PathLike[str] | None = None,
    task: Task | str = "classification",
    example_input: Any = None,
    config: TrainConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "no",
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | Progress = True,
    provenance: Mapping[str, Any] | None = None,
    tests: Mapping[str, Callable[[nn.Module], float]] | None = None,
    notes: Sequence[str] = (),
    original: Report | None = None,
) -> Result:
    """Train ``model``, rewritten to ``architecture``, and report; nothing is searched.

    The data may be another than that of the search (section 4.1.4 and 4.2.2 of the paper). Settings that
    are not told here are those of :func:`refiner.refine`.

    Args:
        model: the original; never changed. Operations that the architecture keeps begin with its weights.
        loader: training batches.
        val_loader: validation batches; without it a fifth of the training samples.
        architecture: by default the zero vector, ``model`` as it came.
        weights: file of weights of the rewritten network, to begin with.
        config: how long and how; its ``teacher_weight`` makes ``model`` as it came the teacher.
        original: of the original, trained by this function alike on the same data; its scores then
            stand beside those of the rewritten network.

    Returns:
        The trained network, its report, and no search.

    Raises:
        RefinerError: something that the caller gave does not work; the message tells the next step.
    """
    config, task = config or TrainConfig(), checked_task(task)
    if original is not None:
        _check_original_report(original, config, task)
    devices = Devices.choose(device, precision)
    listener = make_listener(progress, devices)
    if val_loader is None:
        loader, val_loader = split_loader(loader, seed)
    example = example_of(loader) if example_input is None else example_input
    if architecture is None:
        space = offered_space(model, example)  # without a slot it is trained all the same
        vector = (0,) * len(space.slots)
    else:
        space, vector = space_of(architecture, model, example), architecture.vector
    architecture = with_model(
        space.architecture(vector), {**(provenance or {}), "example_input": to_json(example)}
    )
    network = rewrite(model, architecture, seed=seed)
    if weights is not None:
        load_weights(network, weights)
    settings = {
        "vector": list(vector),
        "weights": None if weights is None else str(weights),
        "train": asdict(config),
        "seed": seed,
        "precision": precision,
    }
    sizes = {"training batches": length(loader), "validation batches": length(val_loader)}
    folder = open_or_create(out, resume, settings, provenance, main=devices.is_main)
    state = folder.load_checkpoint("train") if folder is not None else None
    if folder is not None:
        folder.forget_after(0 if state is None else state["epoch"])

    def keep(state: dict[str, Any]) -> None:
        if folder is not None and devices.is_main:
            folder.record({"epoch": state["epoch"], "phase": "train", "loss": state["losses"][-1]})
            folder.save_checkpoint("train", state)

    with dropped_on_error(folder if devices.is_main else None):
        train_batches, val_batches = devices.loader(loader), devices.loader(val_loader, even=False)
        if weights is not None and not isinstance(task, nn.Module):  # a head knows nothing yet
            with seeded(derive_seed(seed, "given"), generators_of(val_batches)):
                batches = devices.batches(val_batches)
                given = evaluate(devices.move(network), batches, task, devices)
            notes = (*notes, f"before the training: {task.metric} {given:.4f}")
        trained = train(
            network, train_batches, val_batches,
            with_teacher(task, model, config.teacher_weight, devices.device),
            devices=devices, config=config, seed=derive_seed(seed, "final"), progress=listener,
            state=state, on_epoch=keep,
        )  # fmt: skip
    measured = run_tests(network, tests or {})
    before = _scores(original)
    network = network.cpu().eval()
    plain = {k: v for k, v in settings.items() if k not in ("vector", "train", "weights")}
    if weights is not None:
        plain["weights to begin with"] = str(weights)
    shown = {**origin_settings(model, provenance), **plain, **sizes}
    shown |= {f"train.{key}": value for key, value in asdict(config).items()}
    costs = cost_report(model, network, space, architecture, first_sample(example), devices=devices)
    report = replace(
        costs,
        metric=task.metric,
        trained=Trained(
            epochs=config.epochs,
            original=before.get(task.metric),
            refined=trained.score,
            tests=tuple((name, before.get(name), value) for name, value in measured.items()),
        ),
        settings=tuple((key, str(value)) for key, value in shown.items()),
        notes=(*notes, *costs.notes),
    )
    if folder is not None and devices.is_main:
        write_result(
            folder, model=network, architecture=architecture, report=report, example_input=example
        )
    return Result(
        model=network, architecture=architecture, report=report, search=None, example_input=example
    )


def _check_original_report(original: Report, config: TrainConfig, task: Task) -> None:
    """Raise a ConfigError unless a report is of the original, trained as the network will be."""
    trained = original.trained
    if any(original.vector):
        fault = "of a rewritten network"
    elif trained is None:
        fault = "of a network that was not trained"
    elif trained.epochs != config.epochs:
        fault = f"of {trained.epochs} epochs of training, not {config.epochs}"
    elif original.metric != task.metric:
        fault = f"of another score: {original.metric}, not {task.metric}"
    else:
        return
    raise ConfigError(
        f"the report given as original is {fault}. Give that of the original, trained alike."
    )


def _scores(report: Report | None) -> dict[str, float]:
    """Return the scores of the network that a report is of, by name."""
    if report is None or report.trained is None:
        return {}
    trained = report.trained
    return {report.metric: trained.refined, **{name: value for name, _, value in trained.tests}}
