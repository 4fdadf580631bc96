"""``refine MODEL``, ``--resume``, ``refine report`` and ``refine export``."""

import json
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import refiner
from refiner.api import check_settings
from refiner.architecture import Architecture
from refiner.data import Data
from refiner.errors import ConfigError, RunError, one_line
from refiner.exporting import check_format
from refiner.inputs import from_json
from refiner.models import ModelSpec, input_channels
from refiner.report import Report
from refiner.run_folder import RunFolder, check_free
from refiner.space import candidate_names
from refiner.task import check_task, make_task
from refiner.user_code import load_function

from .options import absolute, candidate_list, check_new_file, model_arguments
from .screen import listener, print_report

_EXPORTS = {
    "torchscript": "refined.ts",
    "python": "refined_python",
    "onnx": "refined.onnx",
    "pt2": "refined.pt2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What ``refine MODEL`` was given, in the form that config.json keeps."""

    model: str
    data: str
    task: str
    slots: str
    candidates: str | None
    allow_larger: bool
    strategy: str
    warmup_epochs: int
    epochs: int
    train_epochs: int
    lr: float
    batch_size: int
    tells: int
    samples: int
    limit: int | None
    image_size: int | None
    data_root: str
    model_arg: tuple[str, ...]
    pretrained: bool
    weights: str | None
    seed: int
    device: str
    precision: str

    def configs(self) -> tuple[refiner.SearchConfig, refiner.TrainConfig]:
        """Return the settings of the search and of the training; they check their ranges."""
        search = refiner.SearchConfig(
            epochs=self.epochs,
            warmup_epochs=self.warmup_epochs,
            tells=self.tells,
            samples=self.samples,
            weights=self._training(0),
        )
        return search, self._training(self.train_epochs)

    def _training(self, epochs: int) -> refiner.TrainConfig:
        lr_min = min(refiner.TrainConfig().lr_min, self.lr)
        return refiner.TrainConfig(epochs=epochs, lr_max=self.lr, lr_min=lr_min)

    def model_and_data(self) -> tuple[ModelSpec, Any, Data]:
        """Return the model's spec, the model, and data that fits its channels.

        The data decides how many classes the model has, and the model how many channels the data.
        """
        spec = ModelSpec(
            source=self.model,
            arguments=model_arguments(self.model_arg),
            pretrained=self.pretrained,
            weights=self.weights,
            seed=self.seed,
        )
        plain = replace(spec, pretrained=False, weights=None, classes=2)
        channels = input_channels(plain.build())
        # Before data is read, and after the model's file could register its own.
        candidate_names(candidate_list(self.candidates))
        data = refiner.load_data(
            self.data,
            batch_size=self.batch_size,
            channels=channels,
            image_size=self.image_size,
            root=self.data_root,
            limit=self.limit,
            seed=self.seed,
        )
        if data.classes:
            spec = replace(spec, classes=len(data.classes))
        return spec, spec.build(), data


def start_run(options: RunOptions, *, out: Path | None, as_json: bool) -> None:
    """Begin a run in a new folder."""
    folder = _free_folder(options) if out is None else out
    check_free(folder)
    weights = None if options.weights is None else str(Path(options.weights).resolve())
    options = replace(
        options,  # as it can be read from any folder, when the run goes on
        model=absolute(options.model),
        data=absolute(options.data),
        task=absolute(options.task),
        data_root=str(Path(options.data_root).resolve()),
        weights=weights,
    )
    _run(options, folder, resume=False, as_json=as_json)


def resume_run(folder: Path, *, model: str | None, as_json: bool) -> None:
    """Go on with a run, with the settings that its folder keeps."""
    kept = (RunFolder.open(folder).config().get("provenance") or {}).get("command")
    if not isinstance(kept, dict) or set(kept) != {f.name for f in fields(RunOptions)}:
        raise RunError(
            f"{folder} holds no run that `refine MODEL` of this version began, so it cannot go on. A run "
            "of refiner.refine in Python goes on with resume=True there."
        )
    options = RunOptions(**{**kept, "model_arg": tuple(kept["model_arg"])})
    if model is not None and absolute(model) != options.model:
        raise RunError(f"{folder} holds a run of {options.model}, not of {model}. Leave MODEL out.")
    _run(options, folder, resume=True, as_json=as_json)


def _run(options: RunOptions, folder: Path, *, resume: bool, as_json: bool) -> None:
    search, train = options.configs()
    devices = check_settings(options.slots, options.strategy, options.device, options.precision)
    task = _task(options.task)
    progress = listener()
    spec, model, data = options.model_and_data()
    if data.note and devices.is_main:
        progress.note(data.note)
    provenance = {"spec": spec.to_json(), "command": asdict(options)}
    try:
        result = refiner.refine(
            model,
            data.train,
            data.val,
            task=task,
            slots=options.slots,  # type: ignore[arg-type]
            candidates=candidate_list(options.candidates),
            allow_larger=options.allow_larger,
            strategy=options.strategy,
            search=search,
            train=train,
            seed=options.seed,
            device=options.device,
            precision=options.precision,
            out=folder,
            resume=resume,
            progress=progress,
            provenance=provenance,
        )
    except KeyboardInterrupt:
        progress.close()
        if (folder / "checkpoint" / "search.pt").is_file():
            print(f"stopped; to go on: refine --resume {folder}", file=sys.stderr)
        raise
    finally:
        progress.close()
    if devices.is_main:
        _print(result.report, folder, as_json)


def _task(name: str) -> refiner.Task | str:
    """Return a shipped task's name, or the task that a function of the user's returns."""
    if ":" not in name:
        make_task(name)
        return name
    function = load_function(name, ConfigError)
    try:
        task: refiner.Task = function()
    except Exception as error:
        raise ConfigError(f"{name} raised {one_line(error)}") from error
    check_task(task)
    return task


def _free_folder(options: RunOptions) -> Path:
    """Return the first of runs/NAME-DATA, runs/NAME-DATA-2, ... that is not there."""
    name = options.model.rpartition(":")[2].replace("/", "-") or "model"
    data = options.data.partition(":")[0].removesuffix(".py")
    base = Path("runs") / f"{name}-{Path(data).name}"
    number = 1
    while (path := base if number == 1 else base.with_name(f"{base.name}-{number}")).exists():
        number += 1
    return path


def _print(report: Report, folder: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"folder": str(folder), **report.to_json()}))
    else:
        print_report(report)
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        print(f"\n{folder}: {' '.join(files)}")


def show_report(folder: Path, *, as_json: bool) -> None:
    """Print a run's report, and write report.md again."""
    run = RunFolder.open(folder)
    report = Report.from_json(
        {k: v for k, v in run.read_json("report.json").items() if k != "format_version"}
    )
    run.write_text("report.md", report.to_markdown())
    _print(report, folder, as_json)


def export_run(folder: Path, *, export_format: str, to: Path | None) -> None:
    """Build the refined model of a run again and export it."""
    from safetensors.torch import load_model

    check_format(export_format)
    if to is not None:
        check_new_file(to)
    RunFolder.open(folder)
    architecture = Architecture.load(folder / "architecture.json")
    made = architecture.model or {}
    if "spec" not in made or "example_input" not in made:
        raise RunError(
            f"{folder} does not tell how its model was made, since Python code made it. Use "
            "refiner.rewrite and refiner.export there."
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
