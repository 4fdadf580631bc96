"""``refine apply``: rewrite a model to an architecture, without training."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

import refiner
from refiner.core.batches import first_sample
from refiner.core.contents import from_json, to_json
from refiner.core.errors import ArchitectureError, ConfigError, RunError
from refiner.core.inputs import ExampleInput
from refiner.core.models import MOST_CLASSES, ModelSpec
from refiner.core.preprocessing import preprocessing_of
from refiner.core.types import JsonDict
from refiner.cost.budget import Budget, parse_budgets
from refiner.cost.budget_check import over_budget
from refiner.cost.deployment import Deployment
from refiner.cost.reach import choose_space
from refiner.runs.report_making import cost_report
from refiner.runs.result_files import write_result
from refiner.runs.run_folder import RunFolder, check_free
from refiner.runs.search_run import kept_network
from refiner.search.pareto import front_from_json, pick
from refiner.space.admissible import Offer
from refiner.space.architecture import Architecture, Vector, with_model
from refiner.space.search_space import SearchSpace, space_of
from refiner.training.devices import Devices
from refiner.training.loop import TrainConfig

from .consent import Consent
from .example_input import example_input
from .finished import run_architecture, run_model
from .paths import absolute, candidate_list, model_arguments, weights_file
from .refitting import kept_config, refitted
from .request import RunRequest, request_from
from .run_deployment import deployment_of
from .screen import print_report
from .slots import slots_option


def apply_architecture(
    source: str,
    text: str,
    *,
    slots: str,
    candidates: str | None,
    allow_larger: bool,
    channel_multiple: int,
    only: Sequence[str],
    skip: Sequence[str],
    input_size: str | None,
    data: str | None,
    model_arg: Sequence[str],
    pretrained: bool,
    weights: str | None,
    trust_weights: bool,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Rewrite a model to a vector or an architecture.json; report, and write it out if asked."""
    if out is not None:
        check_free(out)
    spec = ModelSpec(
        source=absolute(source), arguments=model_arguments(model_arg), pretrained=pretrained,
        weights=None if weights is None else weights_file(weights), seed=seed,
        trust_weights=trust_weights,
    ).with_stored_arguments()  # fmt: skip
    given = Architecture.load(text) if text.endswith(".json") else None
    offer = Offer(
        candidates=candidate_list(candidates),
        allow_larger=allow_larger,
        channel_multiple=channel_multiple,
        only=tuple(only),
        skip=tuple(skip),
    )
    if given is not None and (slots != "auto" or offer != Offer()):
        raise ConfigError(
            f"{text} holds its slots and candidates. Leave --slots, --candidates, --allow-larger, "
            "--channel-multiple, --only and --skip out."
        )
    made = given.model or {} if given is not None else {}
    spec = replace(spec, classes=_classes(made))
    model = spec.build()
    if input_size is None and data is None and "example_input" in made:
        example = from_json(made["example_input"])
    else:
        example = example_input(model, input_size, data)
    if given is not None:
        space, vector = space_of(given, model, example), given.vector
    else:
        vector = _vector(text)
        space, _ = choose_space(
            model,
            example,
            slots=slots_option(slots),
            trained=pretrained or weights is not None,
            offer=offer,
        )
        _check_length(vector, space, source)
    _rewrite(spec, model, space, vector, example, made, out=out, as_json=as_json)


def _classes(made: JsonDict) -> int | None:
    """Return the number of classes that an architecture's file names, if it names one."""
    spec = made.get("spec")
    classes = spec.get("classes") if isinstance(spec, dict) else None
    return classes if type(classes) is int and 0 < classes <= MOST_CLASSES else None


def _check_length(vector: Vector, space: SearchSpace, source: str) -> None:
    """Raise an ArchitectureError for a vector of other slots."""
    if len(vector) != len(space.slots):
        slots = space.granularity
        raise ArchitectureError(
            f"the vector has {len(vector)} numbers, but with --slots {slots} the model has "
            f"{len(space.slots)} slots. `refine slots {source} --slots {slots}` lists them; a "
            "trained model is refined with --slots group."
        )


def pick_architecture(
    folder: Path, budgets: Sequence[str], *, consent: Consent, out: Path | None, as_json: bool
) -> None:
    """Rewrite a run's model to the best architecture of its front within budgets."""
    if out is not None:
        check_free(out)
    run = RunFolder.open(folder)
    points, original, measure = front_from_json(run.read_json("pareto.json"))
    limits, parsed = {}, parse_budgets(budgets)
    for budget in parsed:
        if budget.resource not in original:
            raise ConfigError(
                f"the front of {folder} has no {budget.resource}. Pick by {' or '.join(original)}."
            )
        limits[budget.resource] = budget.most(original[budget.resource])
    found = pick(points, limits)
    shares = ", ".join(f"{100 * point.macs / original['macs']:.0f}" for point in points)
    notes = [
        f"the best within {', '.join(budgets)} of the front, which has {shares} % of the MACs; its "
        f"{measure} in the search is {found.score:.4f}, on the validation images"
    ]
    if found.latency is not None:
        notes += [f"latency {found.latency:.2f} ms, as predicted by the run's latency table"]
    _rewrite_of_run(
        run, found.vector, notes, consent=consent, budgets=parsed, out=out, as_json=as_json
    )


def apply_to_run(
    folder: Path, text: str, *, consent: Consent, out: Path | None, as_json: bool
) -> None:
    """Rewrite a run's model to a vector: a baseline's, for example, or one of the top-k."""
    if out is not None:
        check_free(out)
    run = RunFolder.open(folder)
    if text.endswith(".json"):
        raise ConfigError(
            f"{folder} is a run: it takes a vector such as 1,0,0,2, or --pick macs=50%. Name a "
            f"model to apply {text} to."
        )
    _rewrite_of_run(run, _vector(text), [], consent=consent, out=out, as_json=as_json)


def _rewrite_of_run(
    run: RunFolder,
    vector: Vector,
    notes: Sequence[str],
    *,
    consent: Consent,
    budgets: Sequence[Budget] = (),
    out: Path | None,
    as_json: bool,
) -> None:
    """Rewrite a run's model; where it was distilled, with the weights of its search, refitted."""
    config = run.config()
    settings, provenance = config.get("settings"), config.get("provenance")
    if not settings or not isinstance(settings, dict):
        raise RunError(
            f"{run.path} holds an architecture that `refine apply` wrote, and no search. Name its "
            f"run, or apply it to a model: refine apply MODEL {run.path / 'architecture.json'}."
        )
    kept = provenance.get("command") if isinstance(provenance, dict) else None
    request = None if kept is None else request_from(RunRequest, kept, run.path)
    given, made = run_architecture(
        run, f"Use refiner.rewrite there, with the vector {','.join(map(str, vector))}."
    )
    example = from_json(made["example_input"])
    spec, model = run_model(made, run.path, consent, f"refine apply {run.path}")
    deployment, moved = deployment_of(run, settings, example)
    space = space_of(given, model, example)
    space.architecture(vector)  # it is checked before the weights are read
    network = None
    if settings.get("distill") is not None:
        network, weights = kept_network(run, model, space, vector), "those that the search left"
        refits = kept_config(run, settings)
        if out is None:
            how = "--out DIR writes it out" if refits is None else "--out DIR refits it"
        else:
            if refits is not None:
                network, done = refitted(run, refits, request, model, space, network, consent)
                weights += f", {done}"
            command = {} if request is None else request.given
            how = f"Fine-tune it: {_fine_tuning(spec, command, out)}"
        notes = [*notes, f"its weights are {weights}. {how}"]
    _rewrite(
        spec, model, space, vector, example, made, out=out, as_json=as_json, network=network,
        notes=[*notes, *moved], budgets=budgets, deployment=deployment,
    )  # fmt: skip


_REPEATED = "data test_data task limit image_size norm mean std batch_size precision device".split()
"""Options of a run that its fine-tuning repeats."""


def _fine_tuning(spec: ModelSpec, command: Mapping[str, Any], out: Path) -> str:
    """Return the command that fine-tunes what ``apply`` wrote, the original as teacher."""
    teacher = spec.weights or ("pretrained" if spec.pretrained else None)
    words = ["refine", "train", spec.source, "--arch", str(out), "--weights", str(out)]
    words += ["--teacher", teacher] if teacher else []
    for argument in command.get("model_arg", ()):
        words += ["--model-arg", argument]
    for name in _REPEATED:
        if command.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", str(command[name])]
    if command.get("data") in ("cifar10", "cifar100"):
        words += ["--data-root", command["data_root"]]
    rate = str(TrainConfig.fine_tuning().lr_max)
    return shlex.join([*words, "--epochs", str(command.get("epochs", 5)), "--lr", rate])


def _rewrite(
    spec: ModelSpec,
    model: nn.Module,
    space: SearchSpace,
    vector: Vector,
    example: ExampleInput,
    made: JsonDict,
    *,
    out: Path | None,
    as_json: bool,
    network: nn.Module | None = None,
    notes: Sequence[str] = (),
    budgets: Sequence[Budget] = (),
    deployment: Deployment | None = None,
) -> None:
    """Rewrite, unless it was done already, report the cost, and write it all out if asked."""
    architecture = space.architecture(vector)
    rewritten = network
    if rewritten is None:
        rewritten = refiner.rewrite(model, architecture, seed=spec.seed)
    report = cost_report(
        model, rewritten, space, architecture, first_sample(example), deployment,
        devices=Devices.choose("cpu"),
    )  # fmt: skip
    counted = [budget for budget in budgets if budget.resource != "latency"]
    over = over_budget(counted, report.before, report.after)
    report = replace(report, notes=(*notes, *over, *report.notes))
    if out is not None:
        prepared = preprocessing_of(made)
        origin = {"spec": spec.to_json()}
        origin |= {} if prepared is None else {"preprocessing": prepared.to_json()}
        folder = RunFolder.create(out, {"provenance": origin, "settings": {}})
        write_result(
            folder,
            original=model,
            space=space,
            model=rewritten,
            architecture=with_model(architecture, {**origin, "example_input": to_json(example)}),
            report=report,
            example_input=example,
        )
    if as_json:
        print(json.dumps(report.to_json()))
    else:
        print_report(report)


def _vector(text: str) -> Vector:
    try:
        return tuple(int(part) for part in text.strip("[]() ").split(","))
    except ValueError:
        raise ArchitectureError(
            f"{text!r} is neither a file that ends in .json nor a vector such as 1,0,0,2."
        ) from None
