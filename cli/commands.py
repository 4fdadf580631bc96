"""``refine run`` and ``refine train``, whose options are declared by the library's settings."""

from pathlib import Path
from typing import Annotated

import typer

from refiner.core.errors import RefinerError
from refiner.training.loop import TrainConfig

from .arguments import (
    Device,
    Json,
    ModelAgain,
    ModelOrFolder,
    OptionalModel,
    Precision,
    Threads,
    TimedBatch,
    Trust,
    given_by_user,
    refuse,
    refuse_given,
)
from .consent import Consent
from .declared import Given, declares
from .options import ModelAndData
from .request import RUN_RECORDS, RunRequest, TrainRequest
from .run_arguments import (
    Arch,
    Config,
    Distill,
    Force,
    Log,
    Pretrain,
    Recipe,
    Resume,
    RunFolderOption,
    Scale,
    Seeds,
    Teacher,
    TrainSeed,
    Unlabelled,
)
from .screen import tracker_names

_RESUMED = set("context model data test_data task resume log as_json trust trust_weights".split())
_FIXED = "cannot change in a run that goes on"
_RECIPES = set(
    "context recipe data data_root scale pretrain seed device precision out as_json".split()
)
_SET_BY_RECIPE = "is set by the recipe; `refine recipes copy` makes a copy to change"


@declares(*RUN_RECORDS)
def run_command(
    context: typer.Context,
    given: Given,
    model: OptionalModel = None,
    distill: Distill = None,
    seeds: Seeds = None,
    config: Config = None,
    out: RunFolderOption = None,
    resume: Resume = None,
    log: Log = None,
    trust: Trust = False,
    force: Force = False,
    unlabelled: Unlabelled = False,
    as_json: Json = False,
    recipe: Recipe = None,
    scale: Scale = None,
    pretrain: Pretrain = None,
) -> None:
    """Refine MODEL within a budget: search, fine-tune, report and export."""
    _check_trust(trust, resume)
    if resume is not None:
        refuse(context, _RESUMED | {"recipe"}, _FIXED)
        _resume(resume, _consent(model, given, trust, recipe), tracker_names(log), as_json)
    elif recipe is not None:
        from .recipes import run_recipe

        if log:
            raise RefinerError("--log does not go with a recipe. Leave it out.")
        refuse(context, _RECIPES, _SET_BY_RECIPE)
        run_recipe(
            recipe, data=given.get("data"), data_root=Path(given.get("data_root", "data")),
            scale=1.0 if scale is None else scale, pretrain=pretrain is not False,
            seed=given.get("seed", 0), device=given.get("device", "auto"),
            precision=given.get("precision", "no"), out=out, as_json=as_json,
        )  # fmt: skip
    else:
        for name, typed in (("scale", "--scale"), ("pretrain", "--pretrain and --no-pretrain")):
            if given_by_user(context, name):
                raise RefinerError(f"{typed} goes with a recipe. Name one with --recipe.")
        if config is not None:
            from .config_file import read_config

            given = read_config(config) | given
        if distill is not None:
            given["distill"] = distill
        given |= _set(force=force, unlabelled=unlabelled)
        given |= _logged(log or given.get("log"))
        _start(RunRequest.of(model, given), seeds, out, as_json)


def _set(**flags: bool) -> Given:
    """Return the flags that are set."""
    return {name: True for name, value in flags.items() if value}


def _logged(log: list[str] | None) -> Given:
    """Return the trackers that are named, where any are."""
    names = tracker_names(log)
    return {"log": names} if names else {}


def _start(request: RunRequest, seeds: int | None, out: Path | None, as_json: bool) -> None:
    from .run import start_run
    from .seeds import start_seeds

    if seeds is None:
        start_run(request, out=out, as_json=as_json)
    else:
        start_seeds(request, seeds, out=out, as_json=as_json)


def _check_trust(trust: bool, resume: Path | None) -> None:
    """Raise a RefinerError for a trust that is in no folder."""
    if trust and resume is None:
        raise RefinerError("--trust goes with --resume. Leave it out.")


def _consent(model: str | None, given: Given, trust: bool, recipe: str | None = None) -> Consent:
    """Return what the command line lets a folder run."""
    return Consent.of(
        trust=trust,
        trust_weights=bool(given.get("trust_weights")),
        positional=model,
        data=given.get("data"),
        task=given.get("task"),
        recipe=recipe,
        **{"test-data": given.get("test_data")},
    )


def _resume(folder: Path, consent: Consent, log: list[str], as_json: bool) -> None:
    from .run import resume_run
    from .seeds import holds_seeds, resume_seeds

    go_on = resume_seeds if holds_seeds(folder) else resume_run
    go_on(folder, consent=consent, log=log, as_json=as_json)


@declares(ModelAndData, TrainConfig)
def train_command(
    context: typer.Context,
    given: Given,
    model: OptionalModel = None,
    arch: Arch = None,
    teacher: Teacher = None,
    seed: TrainSeed = None,
    device: Device = None,
    precision: Precision = None,
    out: RunFolderOption = None,
    resume: Resume = None,
    log: Log = None,
    trust: Trust = False,
    force: Force = False,
    unlabelled: Unlabelled = False,
    as_json: Json = False,
) -> None:
    """Train MODEL, or an architecture of it, on any data, without a search."""
    from .train import resume_training, start_training

    _check_trust(trust, resume)
    if resume is not None:
        refuse(context, _RESUMED, _FIXED)
        consent = _consent(model, given, trust)
        resume_training(resume, consent=consent, log=tracker_names(log), as_json=as_json)
        return
    own = {"arch": arch, "teacher": teacher, "seed": seed, "device": device, "precision": precision}
    given |= {name: value for name, value in own.items() if value is not None}
    given |= _set(force=force, unlabelled=unlabelled)
    given |= _logged(log)
    start_training(TrainRequest.of(model, given), out=out, as_json=as_json)


@declares(ModelAndData)
def eval_command(
    given: Given,
    model: ModelOrFolder,
    named: ModelAgain = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of the validation split. Default: 0.",
            rich_help_panel="Data",
            metavar="N",
            show_default=False,
        ),
    ] = None,
    device: Device = None,
    precision: Precision = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Evaluate MODEL, or the refined model of a run, and say what is wrong with it or the data."""
    from .eval import evaluate_model, evaluate_run

    own = {"seed": seed, "device": device, "precision": precision}
    given |= {name: value for name, value in own.items() if value is not None}
    folder = Path(model)
    if folder.is_dir():
        consent = _consent_of_folder(given, named, trust)
        evaluate_run(folder, given, consent=consent, as_json=as_json)
        return
    if trust or named is not None:
        raise RefinerError("--trust and --model go with a run's folder. Leave them out.")
    evaluate_model(RunRequest.of(model, given), as_json=as_json)


@declares(ModelAndData)
def benchmark_command(
    given: Given,
    model: ModelOrFolder,
    named: ModelAgain = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="Runtime to time in: eager, compile, onnxruntime, tensorrt or openvino. Can be "
            "repeated. By default all that are installed.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    threads: Threads = None,
    latency_batch: TimedBatch = 1,
    device: Device = None,
    precision: Precision = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Time and score MODEL, or a run's original and refined model, in every format and runtime."""
    from .benchmark import Timing, benchmark_model, benchmark_run

    own = {"device": device, "precision": precision}
    given |= {name: value for name, value in own.items() if value is not None}
    timing = Timing(runtimes=runtime or (), threads=threads, batch=latency_batch)
    folder = Path(model)
    if folder.is_dir():
        consent = _consent_of_folder(given, named, trust)
        benchmark_run(folder, given, timing, consent=consent, as_json=as_json)
        return
    if trust or named is not None:
        raise RefinerError("--trust and --model go with a run's folder. Leave them out.")
    benchmark_model(RunRequest.of(model, given), timing, as_json=as_json)


def _consent_of_folder(given: Given, named: str | None, trust: bool) -> Consent:
    """Return what the command line lets a run's folder run; options of the run are refused."""
    refuse_given(given, {"model_arg", "pretrained", "weights"}, "is set by the run")
    return Consent.of(
        trust=trust, trust_weights=bool(given.get("trust_weights")), model=named,
        data=given.get("data"), task=given.get("task"),
        **{"test-data": given.get("test_data")},
    )  # fmt: skip
