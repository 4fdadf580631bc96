"""``refine MODEL``, ``--resume``, ``refine report`` and ``refine export``."""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import refiner
from refiner.api import DISTILLED_SEARCH, check_settings
from refiner.core.errors import ConfigError, RunError, one_line
from refiner.core.inputs import from_json
from refiner.core.models import DRAWN, ModelSpec
from refiner.cost.budget import parse_budgets
from refiner.exports.exporting import check_format
from refiner.runs.report import Report
from refiner.runs.run_folder import RunFolder, check_free
from refiner.space.architecture import Architecture
from refiner.space.search_space import candidate_names

from .compare import runs_in
from .options import ModelAndData, candidate_list, check_new_file, kept_options
from .recipes import kept_recipe, resume_recipe, show_recipe
from .screen import listening, print_report

_EXPORTS = {
    "torchscript": "refined.ts",
    "python": "refined_python",
    "onnx": "refined.onnx",
    "pt2": "refined.pt2",
}


_TEACHER = 0.5
"""Share of the loss by which a refined model that inherits weights follows the original."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(ModelAndData):
    """What ``refine MODEL`` was given, in the form that config.json keeps."""

    slots: str
    candidates: str | None
    allow_larger: bool
    strategy: str
    budget: tuple[str, ...]
    distill: bool
    warmup_epochs: int
    epochs: int
    train_epochs: int
    tells: int
    samples: int
    baselines: bool

    def pairs_beside(self) -> list[str]:
        """Return the pairs beside the faces; none where no network will be trained."""
        return ModelAndData.pairs_beside(self) if self.train_epochs else []

    def configs(self) -> tuple[refiner.SearchConfig, refiner.TrainConfig]:
        """Return the settings of the search and of the training; they check their ranges."""
        search = replace(
            DISTILLED_SEARCH if self.distill else refiner.SearchConfig(),
            epochs=self.epochs,
            warmup_epochs=self.warmup_epochs,
            trials=max(1, self.epochs) * self.tells * self.samples,
            samples=self.samples,
            weights=self.training(0),
        )
        training = self.training(self.train_epochs)
        return search, replace(training, teacher_weight=_TEACHER) if self.distill else training


def start_run(options: RunOptions, *, out: Path | None, as_json: bool) -> None:
    """Begin a run in a new folder."""
    folder = options.free_folder() if out is None else out
    check_free(folder)
    check_run(options)
    report = carry_out(options.absolute(), folder, resume=False)
    if report is not None:
        print_run(report, folder, as_json)


def check_run(options: RunOptions) -> None:
    """Raise a ConfigError for options that do not go together."""
    if options.verify and options.train_epochs == 0:
        raise ConfigError("--verify measures trained networks. Give --train-epochs 1 or more.")
    if options.distill and options.spec().weights_from() == DRAWN:
        raise ConfigError(
            f"--distill begins with what the model has learned, and {options.model} is new here. Give "
            "--pretrained or --weights FILE."
        )


def resume_run(folder: Path, *, model: str | None, as_json: bool) -> None:
    """Go on with a run, with the settings that its folder keeps."""
    recipe = kept_recipe(folder)
    if recipe is not None:
        resume_recipe(recipe, folder, as_json=as_json)
        return
    run = RunFolder.open(folder)
    if run.holds("report.json"):
        print(f"this run is finished; `refine report {folder}` shows it again", file=sys.stderr)
        print_run(Report.from_json(run.read_json("report.json")), folder, as_json)
        return
    report = carry_out(kept_options(RunOptions, folder, model), folder, resume=True)
    if report is not None:
        print_run(report, folder, as_json)


def carry_out(
    options: RunOptions, folder: Path, *, resume: bool, shown: Path | None = None
) -> Report | None:
    """Begin a run or go on with it, and return its report; None where another process is to print it.

    Args:
        options: of the run.
        folder: of the run.
        resume: whether it goes on.
        shown: folder that ``--resume`` goes on with, where it is not ``folder``.
    """
    search, train = options.configs()
    devices = check_settings(options.slots, options.strategy, options.device, options.precision)
    parse_budgets(options.budget)
    with listening(folder, "refine --resume", shown or folder) as progress:
        # Before data is read, and after the model's file could register its own.
        spec, model, data, task, tests = options.load(
            first=lambda: candidate_names(
                candidate_list(options.candidates),
                options.slots,  # type: ignore[arg-type]
            )
        )
        for note in options.notes(data) if devices.is_main else ():
            progress.note(note)
        result = refiner.refine(
            model,
            data.train,
            data.val,
            task=task,
            tests=tests,
            slots=options.slots,  # type: ignore[arg-type]
            candidates=candidate_list(options.candidates),
            allow_larger=options.allow_larger,
            strategy=options.strategy,
            budget=options.budget,
            distill=refiner.DistillConfig() if options.distill else None,
            search=search,
            train=train,
            baselines=options.baselines,
            seed=options.seed,
            device=options.device,
            precision=options.precision,
            out=folder,
            resume=resume,
            progress=progress,
            provenance={"spec": spec.to_json(), "command": asdict(options)},
        )
    return result.report if devices.is_main else None


def print_run(report: Report, folder: Path, as_json: bool) -> None:
    """Print a run's report and the files of its folder."""
    if as_json:
        print(json.dumps({"folder": str(folder), **report.to_json()}))
    else:
        print_report(report)
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        print(f"\n{folder}: {' '.join(files)}")


def show_report(folder: Path, *, as_json: bool) -> None:
    """Print a run's report, and write report.md again; of a folder of several what these left."""
    if runs_in(folder) != [folder]:
        show_recipe(folder, as_json=as_json)
        return
    run = RunFolder.open(folder)
    report = Report.from_json(run.read_json("report.json"))
    run.write_text("report.md", report.to_markdown())
    print_run(report, folder, as_json)


def run_architecture(run: RunFolder, instead: str) -> tuple[Architecture, dict[str, Any]]:
    """Return what a run found, and how its model and its example input are made again.

    Args:
        run: the run.
        instead: what to do where that is not told.

    Raises:
        RunError: the run has not ended, or Python code made its model.
    """
    run.read_json("architecture.json")
    architecture = Architecture.load(run.path / "architecture.json")
    made = architecture.model or {}
    if "spec" not in made or "example_input" not in made:
        raise RunError(
            f"{run.path} does not tell how its model was made, since Python code made it. {instead}"
        )
    return architecture, made


def export_run(folder: Path, *, export_format: str, to: Path | None) -> None:
    """Build the refined model of a run again and export it."""
    from safetensors.torch import load_model

    check_format(export_format)
    if to is not None:
        check_new_file(to)
    architecture, made = run_architecture(
        RunFolder.open(folder), "Use refiner.rewrite and refiner.export there."
    )
    spec = ModelSpec(**{**made["spec"], "weights": None})
    model = refiner.rewrite(spec.build(), architecture)
    try:
        load_model(model, str(folder / "refined.safetensors"))
    except Exception as error:
        raise RunError(
            f"{folder}/refined.safetensors cannot be loaded: {one_line(error)}"
        ) from error
    target = to or folder / _EXPORTS[export_format]
    how = refiner.export(model, target, from_json(made["example_input"]), export_format)
    print(f"{target}: {how}")
