"""``refine train``: train a model, or an architecture of it, on any data."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import refiner
from refiner.architecture import Architecture
from refiner.devices import Devices
from refiner.run_folder import check_free

from .options import ModelAndData, kept_options
from .run import print_run
from .screen import listening


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(ModelAndData):
    """What ``refine train`` was given, in the form that config.json keeps."""

    arch: str | None
    epochs: int


def start_training(options: TrainOptions, *, out: Path | None, as_json: bool) -> None:
    """Begin a training in a new folder."""
    folder = options.free_folder() if out is None else out
    check_free(folder)
    if options.arch is not None:
        arch = Path(options.arch).resolve()
        options = replace(options, arch=str(arch / "architecture.json" if arch.is_dir() else arch))
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
        # The weights are those of the network that is trained, which may be a rewritten one.
        spec, model, data, task, tests = replace(options, weights=None).load()
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
