"""Arguments and options that several commands declare, with their help."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from refiner.core.errors import RefinerError

MODEL_FORMS = (
    "timm:NAME, torchvision:NAME, ultralytics:FILE, transformers:FOLDER, lightning:FILE.py:CLASS, "
    "FILE.py:FUNCTION or package.module:FUNCTION."
)

AnyArguments: dict[str, Any] = {
    "add_help_option": False,
    "context_settings": {"ignore_unknown_options": True, "allow_extra_args": True},
}
"""Settings of a command that hands everything on, ``--help`` included."""

Model = Annotated[str, typer.Argument(help=MODEL_FORMS, metavar="MODEL", show_default=False)]
OptionalModel = Annotated[
    str | None, typer.Argument(help=MODEL_FORMS, metavar="MODEL", show_default=False)
]
ModelOrRun = Annotated[
    str,
    typer.Argument(
        help=f"{MODEL_FORMS} Or the folder of a run, with a vector or --pick.",
        metavar="MODEL",
        show_default=False,
    ),
]
ModelOrFolder = Annotated[
    str,
    typer.Argument(
        help=f"{MODEL_FORMS} Or the folder of a run.", metavar="MODEL", show_default=False
    ),
]
Slots = Annotated[
    str,
    typer.Option(
        help="What changes together: conv, block, all or group. auto takes what reaches most.",
        metavar="NAME",
    ),
]
Candidates = Annotated[
    str | None,
    typer.Option(
        help="Candidates to choose from, separated by commas. By default those that are listed "
        "without this. convs takes those that leave plain convs.",
        metavar="NAMES",
        show_default=False,
    ),
]
AllowLarger = Annotated[
    bool,
    typer.Option(
        "--allow-larger", help="Admit candidates that have more parameters than the original."
    ),
]
ChannelMultiple = Annotated[
    int,
    typer.Option(
        help="Channel pruning leaves multiples of N channels, or of a part of N in a narrow layer.",
        metavar="N",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        help="Change only the convs of this name or pattern. Can be repeated.",
        metavar="PATTERN",
        show_default=False,
    ),
]
Skip = Annotated[
    list[str] | None,
    typer.Option(
        help="Leave the convs of this name or pattern as they are. Can be repeated.",
        metavar="PATTERN",
        show_default=False,
    ),
]
ModelArg = Annotated[
    list[str] | None,
    typer.Option(
        help="Argument of the model's builder. Can be repeated.",
        metavar="KEY=VALUE",
        show_default=False,
    ),
]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="Start from the published weights.")]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        "--ckpt",
        help="Start from the weights in a .safetensors, .pt or .ckpt file.",
        metavar="FILE",
        show_default=False,
    ),
]
InputSize = Annotated[
    str | None,
    typer.Option(
        help="Shape of one input: N for N x N pixels, or C,H,W (C,L or C,T,H,W). By default the "
        "model's own, else C,224,224.",
        metavar="SHAPE",
        show_default=False,
    ),
]
ExampleData = Annotated[
    str | None,
    typer.Option(
        "--data", help="Take the input from this data set, as `refine MODEL` does.",
        show_default=False,
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(help="Seed; it fixes a run on a CPU to the bit.", metavar="N")]
Device = Annotated[
    str | None,
    typer.Option(
        help="auto, cpu or cuda. Default: auto.",
        metavar="NAME",
        rich_help_panel="Output",
        show_default=False,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Mixed precision: no or bf16. Default: no.",
        metavar="NAME",
        rich_help_panel="Output",
        show_default=False,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="CPU threads of a timed pass. By default as many as PyTorch uses.",
        metavar="N",
        show_default=False,
    ),
]
TimedBatch = Annotated[
    int, typer.Option("--latency-batch", help="Samples in the timed batch.", metavar="N")
]
NewFolder = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Folder for the results; must be new.", metavar="DIR", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel="Output")]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run the code that the run's folder names: the file of its model, data or task.",
        rich_help_panel="Output",
    ),
]
ModelAgain = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The run's MODEL, named again if it is your own code.",
        metavar="MODEL",
        show_default=False,
    ),
]
TrustWeights = Annotated[
    bool,
    typer.Option(
        "--trust-weights",
        help="Also read files of weights that hold Python objects. Such a file can run code when "
        "it is read.",
    ),
]


def given_by_user(context: typer.Context, name: str) -> bool:
    """Return whether the user gave this option, so that its value is not a default."""
    return getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"


def refuse_given(given: Mapping[str, object], names: set[str], why: str) -> None:
    """Raise a RefinerError if one of these options was given."""
    for name in sorted(names & set(given)):
        raise RefinerError(f"--{name.replace('_', '-')} {why}. Leave it out.")


def refuse(context: typer.Context, allowed: set[str], why: str) -> None:
    """Raise a RefinerError if any other option was given."""
    for name in context.params:
        if name not in allowed and given_by_user(context, name):
            shown = "MODEL" if name == "model" else f"--{name.replace('_', '-')}"
            raise RefinerError(f"{shown} {why}. Leave it out.")
