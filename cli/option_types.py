"""Arguments and options that several commands declare alike, with their help."""

from pathlib import Path
from typing import Annotated

import typer

MODEL_FORMS = "timm:NAME, torchvision:NAME, FILE.py:FUNCTION or package.module:FUNCTION"

Model = Annotated[
    str,
    typer.Argument(
        help=MODEL_FORMS,
        show_default=False,
    ),
]
_SLOTS = "what changes together: conv or block; all: any conv by itself; group: convs that alone read each other, with fewer channels between them or other operations"
Slots = Annotated[str, typer.Option(help=_SLOTS)]
RunSlots = Annotated[
    str | None,
    typer.Option(help=f"{_SLOTS}; default: group after --distill, else conv", show_default=False),
]
Candidates = Annotated[
    str | None,
    typer.Option(
        help="what to choose from, by comma: names as `refine slots` lists them; by default what it shows without this",
        show_default=False,
    ),
]
AllowLarger = Annotated[
    bool, typer.Option("--allow-larger", help="admit candidates with more parameters")
]
ModelArg = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE for the model's builder; may be repeated", show_default=False),
]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="start from published weights")]
Weights = Annotated[
    Path | None,
    typer.Option(help="start from the weights in a .safetensors or .pt file", show_default=False),
]
InputSize = Annotated[
    str | None,
    typer.Option(
        help="C,H,W (or C,L or C,T,H,W) of one input; default: the model's own, else C,224,224",
        show_default=False,
    ),
]
ExampleData = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="take the input from this data set, as for `refine MODEL`",
        show_default=False,
    ),
]
TrainingData = Annotated[
    str,
    typer.Option(
        "--data",
        help="digits, cifar10, cifar100, folder:PATH, faces:PATH (PATH/train/IDENTITY/*.jpg) or FILE.py:FUNCTION",
    ),
]
TaskName = Annotated[
    str,
    typer.Option(
        "--task", help="classification, segmentation, regression, arcface, or FILE.py:FUNCTION"
    ),
]
Verify = Annotated[
    list[str] | None,
    typer.Option(
        help="pairs of faces to verify the trained networks on: a list in LFW's format, FILE or "
        "FILE:FOLDER with the folder of its images (default: val beside the list), or a .bin pack; "
        "may be repeated; default with arcface: pairs.txt and *.bin in faces:PATH",
        show_default=False,
    ),
]
LearningRate = Annotated[float, typer.Option("--lr", help="largest learning rate")]
RunLearningRate = Annotated[
    float | None,
    typer.Option(
        "--lr",
        help="largest learning rate; default: 0.1, or 0.01 where a trained model is tuned",
        show_default=False,
    ),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        help="what the refined model may cost: macs=60%, params=5e6, latency=80% or latency=5ms; may be repeated",
        show_default=False,
    ),
]
Distil = Annotated[
    bool | None,
    typer.Option(
        "--distill/--no-distill",
        help="refine from the trained weights that MODEL has: candidates learn from its layers, the "
        "search trains nothing, and the result is tuned with MODEL as teacher; default: where "
        "--pretrained or --weights is given, and no --warmup-epochs",
        show_default=False,
    ),
]
Schedule = Annotated[str, typer.Option(help="of the learning rate: sgdr, cosine or step")]
BatchSize = Annotated[
    int, typer.Option(help="images a training batch; not for FILE.py:FUNCTION data")
]
Limit = Annotated[
    int | None,
    typer.Option(
        help="use so many training images, and as many to validate (1,000 at least); not for FILE.py:FUNCTION data",
        show_default=False,
    ),
]
ImageSize = Annotated[int | None, typer.Option(help="resize images to this", show_default=False)]
DataRoot = Annotated[Path, typer.Option(help="where torchvision keeps its archives")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Precision = Annotated[str, typer.Option(help="no or bf16")]
RunOut = Annotated[
    Path | None,
    typer.Option(
        "--out", help="folder of the run, new; default: runs/MODEL-DATA", show_default=False
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume", help="go on with the run in this folder; its settings hold", show_default=False
    ),
]
OptionalModel = Annotated[
    str | None,
    typer.Argument(
        help=MODEL_FORMS,
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(help="fixes a run on a CPU to the bit")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for machines")]
Out = Annotated[
    Path | None, typer.Option(help="folder for the results; must be new", show_default=False)
]
