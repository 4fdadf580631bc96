"""Options of ``refine MODEL`` and ``refine train`` alone, with their help."""

from pathlib import Path
from typing import Annotated

import typer

Distill = Annotated[
    bool | None,
    typer.Option(
        "--distill/--no-distill",
        help="Refine from the trained weights: candidates are fitted to the layers of MODEL, "
        "which is then the teacher. Default: with --pretrained or --weights.",
        rich_help_panel="Search",
        show_default=False,
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        help="Run N seeds, from --seed on, and report means and deviations.",
        rich_help_panel="Search",
        metavar="N",
        show_default=False,
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="Run an experiment of the paper instead of MODEL: a name of `refine recipes`, or "
        "FILE.py.",
        rich_help_panel="Paper",
        metavar="NAME",
        show_default=False,
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        help="Shrink a recipe to this share of its images and epochs, with fewer channels. "
        "Default: 1.",
        rich_help_panel="Paper",
        metavar="SHARE",
        show_default=False,
    ),
]
Pretrain = Annotated[
    bool | None,
    typer.Option(
        "--pretrain/--no-pretrain",
        help="Run a recipe with a warm-up (the paper's RP) or without (its R). Default: with.",
        rich_help_panel="Paper",
        show_default=False,
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        help="Train this architecture of MODEL: an architecture.json, or a run's folder.",
        rich_help_panel="Model",
        metavar="FILE",
        show_default=False,
    ),
]
Teacher = Annotated[
    str | None,
    typer.Option(
        help="Weights of MODEL, which is then the teacher: a .safetensors or .pt file, the "
        "folder of a training of MODEL, or pretrained.",
        rich_help_panel="Fine-tuning",
        metavar="FILE",
        show_default=False,
    ),
]
TrainSeed = Annotated[
    int | None,
    typer.Option(
        help="Seed; it fixes a run on a CPU to the bit. Default: 0.",
        rich_help_panel="Fine-tuning",
        metavar="N",
        show_default=False,
    ),
]
RunFolderOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder of the run; must be new. By default a new one in runs.",
        rich_help_panel="Output",
        show_default=False,
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        help="Go on with the run in this folder, with its settings. Name your own code again, "
        "as MODEL, --data or --task.",
        rich_help_panel="Output",
        metavar="DIR",
        show_default=False,
    ),
]

Log = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        help="Log to tensorboard (the run's folder), wandb or mlflow. Can be repeated.",
        rich_help_panel="Output",
        metavar="NAME",
        show_default=False,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Go on even if the first look at MODEL and the data finds a fault.",
        rich_help_panel="Output",
    ),
]
Unlabelled = Annotated[
    bool,
    typer.Option(
        "--unlabelled",
        help="Fine-tune by the original's outputs alone; labels of training images are not used.",
        rich_help_panel="Fine-tuning",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Take settings from this YAML file, as `refine config` prints it. Options given here "
        "win over it.",
        rich_help_panel="Output",
        metavar="FILE",
        show_default=False,
    ),
]
