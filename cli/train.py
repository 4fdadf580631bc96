"""``refine train``: train a model, or an architecture of it, on any data."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import refiner
from refiner.runs.run_folder import check_free
from refiner.space.architecture import Architecture
from refiner.training.devices import Devices
from refiner.training.loop import TrainConfig

from .options import ModelAndData, kept_options, weights_file
from .run import print_run
from .screen import listening

_PRETRAINED = "pretrained"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(ModelAndData):
    """What ``refine train`` was given, in the form that config.json keeps."""

    arch: str | None
    epochs: int
    teacher: str | None
    """File of weights of the original, or ``pretrained``."""
    teacher_weight: float

    def original(self) -> Self:
        """Return the options of the model as it came, which may teach; ``weights`` are the trained network's."""
        file = None if self.teacher == _PRETRAINED else self.teacher
        pretrained = self.pretrained or self.teacher == _PRETRAINED
        return replace(self, weights=file, pretrained=pretrained)

    def training(self, epochs: int) -> TrainConfig:
        """Return the settings of a training; they check their ranges."""
        weight = 0.0 if self.teacher is None else self.teacher_weight
        return replace(ModelAndData.training(self, epochs), teacher_weight=weight)


def start_training(options: TrainOptions, *, out: Path | None, as_json: bool) -> None:
    """Begin a training in a new folder."""
    folder = options.free_folder() if out is None else out
    check_free(folder)
    if options.arch is not None:
        arch = Path(options.arch).resolve()
        options = replace(options, arch=str(arch / "architecture.json" if arch.is_dir() else arch))
    if options.teacher not in (None, _PRETRAINED):
        options = replace(options, teacher=weights_file(str(options.teacher)))
    _train(options.absolute(), folder, resume=False, as_json=as_json)


def resume_training(folder: Path, *, model: str | None, as_json: bool) -> None:
    """Go on with a training, with the settings that its folder keeps."""
    options = kept_options(TrainOptions, folder, model)
    _train(options, folder, resume=True, as_json=as_json)


def _train(options: TrainOptions, folder: Path, *, resume: bool, as_json: bool) -> None:
    config = options.training(options.epochs)
    devices = Devices.choose(options.device, options.precision)
    architecture = None if options.arch is None else Architecture.load(options.arch)
    with listening(folder, "refine train --resume") as progress:
        spec, model, data, task, tests = options.original().load()
        for note in options.notes(data) if devices.is_main else ():
            progress.note(note)
        result = refiner.train_architecture(
            model,
            data.train,
            data.val,
            architecture=architecture,
            weights=options.weights,
            task=task,
            tests=tests,
            config=config,
            seed=options.seed,
            device=options.device,
            precision=options.precision,
            out=folder,
            resume=resume,
            progress=progress,
            provenance={"spec": spec.to_json(), "command": asdict(options)},
        )
    if devices.is_main:
        print_run(result.report, folder, as_json)
