"""The command's surface: options and help. What needs torch is imported when a command runs."""

import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from refiner import __version__
from refiner.core.errors import RefinerError

from .option_types import (
    MODEL_FORMS,
    AllowLarger,
    BatchSize,
    Budgets,
    Candidates,
    DataRoot,
    Device,
    Distil,
    ExampleData,
    ImageSize,
    InputSize,
    Json,
    LearningRate,
    Limit,
    Model,
    ModelArg,
    OptionalModel,
    Out,
    Precision,
    Pretrained,
    Resume,
    RunLearningRate,
    RunOut,
    RunSlots,
    Schedule,
    Seed,
    Slots,
    TaskName,
    TrainingData,
    Verify,
    Weights,
)

_FAILED, _STOPPED = 2, 130
DEFAULT_COMMAND = "run"


class _DefaultCommand(TyperGroup):
    """A group in which ``refine MODEL`` means ``refine run MODEL``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command's name in front where none is named; nothing at all asks for help."""
        args = args or ["--help"]
        near = difflib.get_close_matches(args[0], list(self.commands), n=1, cutoff=0.7)
        if near and args[0][0] != "-" and ":" not in args[0] and args[0] not in self.commands:
            raise RefinerError(f"unknown command {args[0]!r}. Did you mean {near[0]}?")
        if args[0] not in self.commands and args[0] not in ("--help", "--version"):
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_DefaultCommand,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=(
        "Refine the operators of a convolutional network and leave its skip connections alone.\n\n"
        "`refine MODEL [OPTIONS]` searches, trains and reports: it is short for `refine run MODEL`, "
        "and `refine MODEL --help` lists its options. MODEL is timm:NAME, torchvision:NAME, "
        "FILE.py:FUNCTION or package.module:FUNCTION.\n\n"
        "Example: refine timm:resnet18 --data folder:images --epochs 30"
    ),
)


@app.callback(invoke_without_command=True)
def _group(
    version: Annotated[bool, typer.Option("--version", help="show the version and exit")] = False,
) -> None:
    if version:
        print(f"refine {__version__}")
        raise typer.Exit


@app.command(DEFAULT_COMMAND)
def run(
    context: typer.Context,
    model: OptionalModel = None,
    data: TrainingData = "digits",
    recipe: Annotated[
        str | None,
        typer.Option(
            help="run this experiment instead of MODEL: a name of `refine recipes`, or FILE.py",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        float, typer.Option(help="of a recipe: share of its images and epochs, narrower networks")
    ] = 1.0,
    pretrain: Annotated[
        bool, typer.Option(help="of a recipe: with a warm-up (the paper's RP) or without (its R)")
    ] = True,
    task: TaskName = "classification",
    verify: Verify = None,
    slots: RunSlots = None,
    candidates: Candidates = None,
    allow_larger: AllowLarger = False,
    strategy: Annotated[str, typer.Option(help="controller, milp or random")] = "controller",
    budget: Budgets = None,
    distill: Distil = None,
    warmup_epochs: Annotated[
        int,
        typer.Option(
            help="on random paths before the search; 0 is the paper's R; not after --distill"
        ),
    ] = 5,
    epochs: Annotated[int, typer.Option(help="of the search")] = 15,
    train_epochs: Annotated[
        int, typer.Option(help="of training original and refined model alike; 0 skips it")
    ] = 15,
    lr: RunLearningRate = None,
    schedule: Schedule = "sgdr",
    batch_size: BatchSize = 64,
    tells: Annotated[int, typer.Option(help="controller steps an epoch")] = 5,
    samples: Annotated[int, typer.Option(help="architectures scored for each")] = 10,
    baselines: Annotated[
        bool,
        typer.Option(
            help="also score and train what the search has to beat: random search of as many scores, and one "
            "operation everywhere; about as long again"
        ),
    ] = True,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="run so many seeds, from --seed on, and report means and deviations",
            show_default=False,
        ),
    ] = None,
    limit: Limit = None,
    image_size: ImageSize = None,
    data_root: DataRoot = Path("data"),
    model_arg: ModelArg = None,
    pretrained: Pretrained = False,
    weights: Weights = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "no",
    out: RunOut = None,
    resume: Resume = None,
    as_json: Json = False,
) -> None:
    """Search better operators for MODEL, train it beside the original, report and export."""
    from .run import RunOptions, resume_run, start_run
    from .seeds import holds_seeds, resume_seeds, start_seeds

    if resume is not None:
        _refuse(context, _RESUMED, _FIXED)
        go_on = resume_seeds if holds_seeds(resume) else resume_run
        go_on(resume, model=model, as_json=as_json)
        return
    if recipe is not None:
        from .recipes import run_recipe

        _refuse(context, _OF_RECIPES, _SET_BY_RECIPE)
        run_recipe(
            recipe, data=data if _given(context, "data") else None, data_root=data_root, scale=scale,
            pretrain=pretrain, seed=seed, device=device, precision=precision, out=out, as_json=as_json,
        )  # fmt: skip
        return
    for name, typed in (("scale", "--scale"), ("pretrain", "--pretrain and --no-pretrain")):
        if _given(context, name):
            raise RefinerError(
                f"{typed} goes with a recipe. Name one with --recipe, or leave it out."
            )
    warmed = _given(context, "warmup_epochs")
    if distill and warmed:
        raise RefinerError(
            "--warmup-epochs trains the weights that --distill keeps. Leave one of them out."
        )
    distilled = (pretrained or weights is not None) and not warmed if distill is None else distill
    options = RunOptions(
        model=_named(model), data=data, task=task, verify=tuple(verify or ()),
        slots=slots or ("group" if distilled else "conv"),
        candidates=candidates, allow_larger=allow_larger, strategy=strategy, budget=tuple(budget or ()),
        distill=distilled, warmup_epochs=0 if distilled else warmup_epochs, epochs=epochs, train_epochs=train_epochs,
        lr=(0.01 if distilled else 0.1) if lr is None else lr, schedule=schedule, batch_size=batch_size, tells=tells, samples=samples, limit=limit,
        image_size=image_size, data_root=str(data_root), model_arg=tuple(model_arg or ()),
        pretrained=pretrained, weights=None if weights is None else str(weights), seed=seed,
        device=device, precision=precision, baselines=baselines,
    )  # fmt: skip
    if seeds is None:
        start_run(options, out=out, as_json=as_json)
    else:
        start_seeds(options, seeds, out=out, as_json=as_json)


def _named(model: str | None) -> str:
    if model is None:
        raise RefinerError("no MODEL is named. Name one, such as timm:resnet18.")
    return model


def _given(context: typer.Context, name: str) -> bool:
    """Return whether the user gave this option, so that its value is no default."""
    return getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"


def _refuse(context: typer.Context, allowed: set[str], why: str) -> None:
    """Raise a RefinerError if any other option was given."""
    for name in context.params:
        if name not in allowed and _given(context, name):
            shown = "MODEL" if name == "model" else f"--{name.replace('_', '-')}"
            raise RefinerError(f"{shown} {why}.")


_OF_RECIPES = set("recipe data data_root scale pretrain seed device precision out as_json".split())
_SET_BY_RECIPE = (
    "is set by the recipe. Leave it out, or change it in a copy (`refine recipes copy`)"
)
_RESUMED = {"model", "resume", "as_json"}
_FIXED = "cannot change in a run that goes on. Leave it out, or begin a new run"


@app.command("train")
def train_command(
    context: typer.Context,
    model: OptionalModel = None,
    data: TrainingData = "digits",
    arch: Annotated[
        Path | None,
        typer.Option(
            help="architecture.json, or a run's folder that holds one; default: MODEL as it is",
            show_default=False,
        ),
    ] = None,
    task: TaskName = "classification",
    verify: Verify = None,
    epochs: Annotated[int, typer.Option(help="of training")] = 35,
    lr: LearningRate = 0.1,
    schedule: Schedule = "sgdr",
    batch_size: BatchSize = 64,
    limit: Limit = None,
    image_size: ImageSize = None,
    data_root: DataRoot = Path("data"),
    model_arg: ModelArg = None,
    pretrained: Pretrained = False,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="start from these weights of the network that is trained (rewritten, with --arch)",
            show_default=False,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="weights of MODEL as it came, which then teaches the network, and with which operations that "
            "stay begin: a .safetensors or .pt file, the folder of a training of MODEL, or pretrained",
            show_default=False,
        ),
    ] = None,
    teacher_weight: Annotated[
        float, typer.Option(help="share of the loss that follows the teacher, 0 to 1")
    ] = 0.5,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "no",
    out: RunOut = None,
    resume: Resume = None,
    as_json: Json = False,
) -> None:
    """Train MODEL, or an architecture of it, on any data; nothing is searched."""
    from .train import TrainOptions, resume_training, start_training

    if resume is not None:
        _refuse(context, _RESUMED, _FIXED)
        resume_training(resume, model=model, as_json=as_json)
        return
    if teacher is None and _given(context, "teacher_weight"):
        raise RefinerError("--teacher-weight goes with --teacher. Name one, or leave it out.")
    options = TrainOptions(
        model=_named(model), data=data, arch=None if arch is None else str(arch), task=task,
        verify=tuple(verify or ()), epochs=epochs, lr=lr, schedule=schedule, batch_size=batch_size, limit=limit, image_size=image_size,
        data_root=str(data_root), model_arg=tuple(model_arg or ()), pretrained=pretrained,
        weights=None if weights is None else str(weights), seed=seed, device=device,
        precision=precision, teacher=teacher, teacher_weight=teacher_weight,
    )  # fmt: skip
    start_training(options, out=out, as_json=as_json)


@app.command("compare")
def compare_command(
    folders: Annotated[list[Path], typer.Argument(help="folders of runs", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show runs side by side: costs and scores of originals and refined networks."""
    from .compare import compare

    compare(folders, as_json=as_json)


@app.command("slots")
def slots_command(
    model: Model,
    slots: Slots = "conv",
    candidates: Candidates = None,
    allow_larger: AllowLarger = False,
    input_size: InputSize = None,
    data: ExampleData = None,
    model_arg: ModelArg = None,
    graph: Annotated[
        Path | None,
        typer.Option(help="draw the network into this SVG file", show_default=False),
    ] = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="time the model and each candidate, one sample, here")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show MODEL's slots, their candidates and costs, every frozen conv and skip edge; trains nothing."""
    from .slots import show_slots

    show_slots(
        model, slots=slots, candidates=candidates, allow_larger=allow_larger,
        input_size=input_size, data=data, model_arg=model_arg or (), graph=graph, latency=latency,
        as_json=as_json,
    )  # fmt: skip


@app.command("apply")
def apply_command(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help=f"{MODEL_FORMS}; or the folder of a run, with a vector or --pick",
            show_default=False,
        ),
    ],
    architecture: Annotated[
        str | None,
        typer.Argument(
            help="an architecture.json, or a vector such as 1,0,0,2", show_default=False
        ),
    ] = None,
    pick: Annotated[
        list[str] | None,
        typer.Option(
            help="take the best of the run's front within this, such as macs=50%; may be repeated",
            show_default=False,
        ),
    ] = None,
    slots: Slots = "conv",
    candidates: Candidates = None,
    allow_larger: AllowLarger = False,
    input_size: InputSize = None,
    data: ExampleData = None,
    model_arg: ModelArg = None,
    pretrained: Pretrained = False,
    weights: Weights = None,
    seed: Seed = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Rewrite MODEL to an architecture without a search, and report its cost."""
    from .apply import apply_architecture, apply_to_run, pick_architecture

    if pick:
        _refuse(
            context, {"model", "pick", "out", "as_json"}, "does not go with --pick. Leave it out"
        )
        pick_architecture(Path(model), pick, out=out, as_json=as_json)
        return
    if architecture is None:
        raise RefinerError(
            "no architecture is named. Name an architecture.json or a vector, or --pick macs=50% and a "
            "run's folder."
        )
    if Path(model).is_dir():
        _refuse(
            context,
            {"model", "architecture", "out", "as_json"},
            "is set by the run. Leave it out",
        )
        apply_to_run(Path(model), architecture, out=out, as_json=as_json)
        return
    apply_architecture(
        model, architecture, slots=slots, candidates=candidates, allow_larger=allow_larger,
        input_size=input_size, data=data, model_arg=model_arg or (), pretrained=pretrained,
        weights=None if weights is None else str(weights), seed=seed, out=out, as_json=as_json,
    )  # fmt: skip


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="a run's folder")], as_json: Json = False
) -> None:
    """Show the report of a run again."""
    from .run import show_report
    from .seeds import holds_seeds, show_seeds

    show = show_seeds if holds_seeds(folder) else show_report
    show(folder, as_json=as_json)


@app.command("export")
def export_command(
    folder: Annotated[Path, typer.Argument(help="a run's folder")],
    export_format: Annotated[
        str, typer.Option("--format", help="torchscript, python, onnx or pt2")
    ] = "torchscript",
    to: Annotated[
        Path | None,
        typer.Option(help="file, or folder for python; default: in DIR", show_default=False),
    ] = None,
) -> None:
    """Export the refined model of a run."""
    from .run import export_run

    export_run(folder, export_format=export_format, to=to)


@app.command("recipes")
def recipes_command(
    action: Annotated[str | None, typer.Argument(help="show or copy", show_default=False)] = None,
    name: Annotated[str | None, typer.Argument(show_default=False)] = None,
    to: Annotated[Path | None, typer.Argument(metavar="FILE", show_default=False)] = None,
) -> None:
    """List the recipes; `show NAME` prints one, `copy NAME FILE` writes it to a file of yours."""
    from .recipes import recipes

    recipes(action, name, to)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 2 the user's input, 130 stopped."""
    call: Callable[..., Any] = typer.main.get_command(app)
    try:
        result = call(args=arguments, prog_name="refine", standalone_mode=False)
    except RefinerError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error}. Name a place that can be read and written.")
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        return _STOPPED
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of typer, whichever click it carries
            command = getattr(getattr(error, "ctx", None), "command_path", "refine")
            command = command.replace("refine run", "refine MODEL")
            return _fail(
                f"{error.format_message().rstrip('.')}. `{command} --help` lists what there is."
            )
        raise
    return result if isinstance(result, int) else 0


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return _FAILED
