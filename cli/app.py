"""``refine``: its commands. What needs torch is imported when a command runs."""

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from refiner import __version__
from refiner.core.errors import RefinerError
from refiner.core.printable import printable
from refiner.space.keep_ratios import CHANNEL_BLOCK

from .arguments import (
    AllowLarger,
    AnyArguments,
    Candidates,
    ChannelMultiple,
    ExampleData,
    InputSize,
    Json,
    Model,
    ModelAgain,
    ModelArg,
    ModelOrRun,
    NewFolder,
    Only,
    Pretrained,
    Seed,
    Skip,
    Slots,
    Threads,
    TimedBatch,
    Trust,
    TrustWeights,
    Weights,
    given_by_user,
    refuse,
)
from .help import WIDTH, Command, Group
from .threads import let_threads_sleep
from .usage import usage_text

_FAILED, _STOPPED = 2, 130
DEFAULT_COMMAND = "run"


class _DefaultCommand(Group):
    """A group in which ``refine MODEL`` means ``refine run MODEL``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in front where none is named; without arguments show help."""
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
    context_settings={"max_content_width": WIDTH},
    pretty_exceptions_enable=False,
    help=(
        "Make a trained convolutional network cheaper and faster, and leave its skip connections "
        "alone.\n\n"
        "`refine MODEL` is short for `refine run MODEL`; `refine MODEL --help` lists its options. "
        "MODEL is timm:NAME, torchvision:NAME, ultralytics:FILE, transformers:FOLDER, "
        "lightning:FILE.py:CLASS, FILE.py:FUNCTION or package.module:FUNCTION.\n\n"
        "Example: `refine timm:resnet18 --pretrained --data folder:images --budget macs=60%`"
    ),
)


@app.callback(invoke_without_command=True)
def _group(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        print(f"refine {__version__}")
        raise typer.Exit


@app.command(DEFAULT_COMMAND, **AnyArguments)
def run(context: typer.Context) -> None:
    """Refine MODEL: search, fine-tune, report and export."""
    from .commands import run_command

    _call(run_command, "refine MODEL", context.args)


@app.command("train", **AnyArguments)
def train(context: typer.Context) -> None:
    """Train MODEL, or an architecture of it, on any data, without a search."""
    from .commands import train_command

    _call(train_command, "refine train", context.args)


@app.command("eval", **AnyArguments)
def eval_model(context: typer.Context) -> None:
    """Evaluate MODEL, or a run's refined model, and say what is wrong with it or the data."""
    from .commands import eval_command

    _call(eval_command, "refine eval", context.args)


@app.command("benchmark", **AnyArguments)
def benchmark(context: typer.Context) -> None:
    """Time and score MODEL, or a run's original and refined model, in every format and runtime."""
    from .commands import benchmark_command

    _call(benchmark_command, "refine benchmark", context.args)


def _call(command: Callable[..., None], name: str, arguments: Sequence[str]) -> None:
    """Run a command whose options come from dataclasses that need torch to be imported."""
    inner = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    inner.command(cls=Command, context_settings={"max_content_width": WIDTH})(command)
    call = typer.main.get_command(inner)
    status = call.main(list(arguments), prog_name=name, standalone_mode=False)
    if status:
        raise typer.Exit(status)


@app.command("slots", cls=Command)
def slots_command(
    context: typer.Context,
    model: Model,
    slots: Slots = "auto",
    candidates: Candidates = None,
    allow_larger: AllowLarger = False,
    channel_multiple: ChannelMultiple = CHANNEL_BLOCK,
    only: Only = None,
    skip: Skip = None,
    input_size: InputSize = None,
    data: ExampleData = None,
    model_arg: ModelArg = None,
    graph: Annotated[
        Path | None,
        typer.Option(
            help="Draw the network into this SVG file.", metavar="FILE", show_default=False
        ),
    ] = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="Time the model and every candidate on this device.")
    ] = False,
    latency_batch: TimedBatch = 1,
    runtime: Annotated[
        str,
        typer.Option(
            help="Runtime that --latency times in: "
            "auto, eager, compile, onnxruntime, tensorrt or openvino.",
            metavar="NAME",
        ),
    ] = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Show MODEL's slots, candidates and costs, frozen convs and skip connections."""
    from .slots import show_slots

    for name in ("runtime", "threads", "latency_batch"):
        if not latency and given_by_user(context, name):
            raise RefinerError(f"--{name.replace('_', '-')} goes with --latency. Give both.")
    show_slots(
        model, slots=slots, candidates=candidates, allow_larger=allow_larger,
        channel_multiple=channel_multiple, only=only or (), skip=skip or (),
        input_size=input_size, data=data,
        model_arg=model_arg or (), graph=graph, latency=latency, latency_batch=latency_batch,
        runtime=runtime, threads=threads, as_json=as_json,
    )  # fmt: skip


@app.command("apply", cls=Command)
def apply_command(
    context: typer.Context,
    model: ModelOrRun,
    architecture: Annotated[
        str | None,
        typer.Argument(
            help="An architecture.json, or a vector such as 1,0,0,2.", show_default=False
        ),
    ] = None,
    pick: Annotated[
        list[str] | None,
        typer.Option(
            help="Take the best of the run's Pareto front within this, such as macs=50%. "
            "Can be repeated.",
            metavar="RESOURCE=AMOUNT",
            show_default=False,
        ),
    ] = None,
    slots: Slots = "auto",
    candidates: Candidates = None,
    allow_larger: AllowLarger = False,
    channel_multiple: ChannelMultiple = CHANNEL_BLOCK,
    only: Only = None,
    skip: Skip = None,
    input_size: InputSize = None,
    data: ExampleData = None,
    model_arg: ModelArg = None,
    pretrained: Pretrained = False,
    weights: Weights = None,
    trust_weights: TrustWeights = False,
    seed: Seed = 0,
    named: ModelAgain = None,
    trust: Trust = False,
    out: NewFolder = None,
    as_json: Json = False,
) -> None:
    """Rewrite MODEL to an architecture without a search, and report its cost."""
    from .apply import apply_architecture, apply_to_run, pick_architecture
    from .consent import Consent

    of_run = {"model", "named", "trust", "trust_weights", "out", "as_json"}
    consent = Consent.of(trust=trust, trust_weights=trust_weights, model=named)
    if pick:
        refuse(context, {"pick", *of_run}, "does not go with --pick")
        pick_architecture(Path(model), pick, consent=consent, out=out, as_json=as_json)
        return
    if architecture is None:
        raise RefinerError(
            "no architecture is named. Name an architecture.json or a vector, or --pick macs=50% "
            "and a run's folder."
        )
    if Path(model).is_dir():
        refuse(context, {"architecture", *of_run}, "is set by the run")
        apply_to_run(Path(model), architecture, consent=consent, out=out, as_json=as_json)
        return
    if trust or named is not None:
        raise RefinerError("--trust and --model go with a run's folder. Leave them out.")
    apply_architecture(
        model, architecture, slots=slots, candidates=candidates, allow_larger=allow_larger,
        channel_multiple=channel_multiple, only=only or (), skip=skip or (),
        input_size=input_size, data=data,
        model_arg=model_arg or (), pretrained=pretrained,
        weights=None if weights is None else str(weights), trust_weights=trust_weights, seed=seed,
        out=out, as_json=as_json,
    )  # fmt: skip


@app.command("compare", cls=Command)
def compare_command(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show the costs and scores of several runs side by side."""
    from .compare import compare

    compare(folders, as_json=as_json)


@app.command("report", cls=Command)
def report_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    in_browser: Annotated[
        bool, typer.Option("--open", help="Open report.html in the browser.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the report of a run again, and write it as a page: report.html."""
    from .finished import check_not_opened, show_report
    from .seeds import holds_seeds, show_seeds

    if holds_seeds(folder):
        check_not_opened(folder, in_browser)
        show_seeds(folder, as_json=as_json)
    else:
        show_report(folder, as_json=as_json, in_browser=in_browser)


@app.command("export", cls=Command)
def export_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    export_format: Annotated[
        str,
        typer.Option(
            "--format",
            help="torchscript, python, onnx, pt2, ultralytics, transformers or lightning.",
            metavar="NAME",
        ),
    ] = "torchscript",
    to: Annotated[
        Path | None,
        typer.Option(
            help="File to write, or folder for python and transformers. By default in the run's "
            "folder.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    fold_norms: Annotated[
        bool, typer.Option("--fold-norms", help="Fold batch norms into the convs before them.")
    ] = False,
    any_size: Annotated[
        bool,
        typer.Option(
            "--any-size",
            help="With --format onnx or pt2: inputs of any height, width or length.",
        ),
    ] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="With --format onnx: 8-bit integers, calibrated on the run's data and compared "
            "with float32.",
        ),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            help="Data of --int8, instead of the run's.", metavar="SPEC", show_default=False
        ),
    ] = None,
    named: ModelAgain = None,
    trust: Trust = False,
) -> None:
    """Export the refined model of a run."""
    from .consent import Consent
    from .finished import export_run

    consent = Consent.of(trust=trust, model=named, data=data)
    if data is not None and not int8:
        raise RefinerError("--data goes with --int8. Leave it out.")
    if int8:
        if export_format != "onnx" or fold_norms or any_size:
            raise RefinerError(
                "--int8 goes with --format onnx alone. It folds norms by itself, and its inputs "
                "have the size of the run's."
            )
        from .int8 import export_int8

        export_int8(folder, {} if data is None else {"data": data}, consent=consent, to=to)
        return
    export_run(
        folder, consent=consent, export_format=export_format, to=to, fold_norms=fold_norms,
        any_size=any_size,
    )  # fmt: skip


@app.command("config", cls=Command)
def config_command(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a run, whose settings are printed instead.", show_default=False
        ),
    ] = None,
) -> None:
    """Print all settings as a YAML file for `refine MODEL --config FILE`."""
    from .config_file import print_config

    print_config(folder)


@app.command("recipes", cls=Command)
def recipes_command(
    action: Annotated[str | None, typer.Argument(help="show or copy.", show_default=False)] = None,
    name: Annotated[str | None, typer.Argument(show_default=False)] = None,
    to: Annotated[Path | None, typer.Argument(metavar="FILE", show_default=False)] = None,
) -> None:
    """List the recipes of the paper; `show NAME` prints one, `copy NAME FILE` copies it."""
    from .recipes import recipes

    recipes(action, name, to)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 2 the user's input, 130 stopped."""
    let_threads_sleep(os.environ)
    call: Callable[..., Any] = typer.main.get_command(app)
    try:
        result = call(args=arguments, prog_name="refine", standalone_mode=False)
    except RefinerError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error}. Name a place that can be read and written.")
    except MemoryError:
        return _fail(_NO_MEMORY)
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        return _STOPPED
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of typer, whichever click it carries
            return _fail(usage_text(error))
        if "can't allocate memory" in str(error) or "out of memory" in str(error):
            return _fail(_NO_MEMORY)
        raise
    return result if isinstance(result, int) else 0


_NO_MEMORY = "the memory does not suffice. Take smaller images, smaller batches or fewer classes."


def _fail(message: str) -> int:
    print(f"error: {' '.join(printable(message).split())}", file=sys.stderr)
    return _FAILED
