"""``refine train``: train a model, or an architecture of it, on any data."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import refiner
from refiner.core.errors import ConfigError
from refiner.runs.run_folder import check_free
from refiner.space.architecture import Architecture

from .consent import Consent, again
from .paths import weights_file
from .preparing import origin
from .request import PRETRAINED, TrainRequest, kept_form, kept_request
from .run import print_run
from .screen import listening


def start_training(request: TrainRequest, *, out: Path | None, as_json: bool) -> None:
    """Begin a training in a new folder."""
    folder = request.source.new_folder() if out is None else out
    check_free(folder)
    given = dict(request.given)
    if given.get("unlabelled") and "teacher" not in given:
        raise ConfigError("--unlabelled goes with --teacher. Name one, or leave it out.")
    if "teacher_weight" in given and "teacher" not in given:
        raise ConfigError("--teacher-weight goes with --teacher. Name one, or leave it out.")
    if "arch" in given:
        arch = Path(given["arch"]).resolve()
        given["arch"] = str(arch / "architecture.json" if arch.is_dir() else arch)
    if given.get("teacher") not in (None, PRETRAINED):
        given["teacher"] = weights_file(given["teacher"])
    request = replace(request, given=given)
    request.source.check()
    _train(request.readable_anywhere(), folder, resume=False, as_json=as_json)


def resume_training(folder: Path, *, consent: Consent, log: Sequence[str], as_json: bool) -> None:
    """Go on with a training, with the settings that its folder keeps."""
    request = kept_request(TrainRequest, folder).trusting(consent.trust_weights).logging_to(log)
    with consent.given(folder, request.sources, f"refine train --resume {folder}"):
        _train(request, folder, resume=True, as_json=as_json)


def _train(request: TrainRequest, folder: Path, *, resume: bool, as_json: bool) -> None:
    config, devices, given = request.config(), request.devices(), request.given
    architecture = Architecture.load(given["arch"]) if "arch" in given else None
    resume_line = f"refine train --resume {folder}{again(request.sources)}"
    with listening(folder, resume_line, log=request.log) as progress:
        spec, model, data, task, tests = request.original.load()
        for note in request.original.notes(data) if devices.is_main else ():
            progress.note(note)
        result = refiner.train_architecture(
            model, data.train, data.val, test_loader=data.test,
            architecture=architecture, weights=given.get("weights"),
            trust_weights=request.source.trust_weights, task=task, tests=tests,
            config=config, seed=given.get("seed", 0), device=given.get("device", "auto"),
            precision=given.get("precision", "no"), out=folder, resume=resume, progress=progress,
            force=request.force,
            provenance=origin(spec, kept_form(request), data),
        )  # fmt: skip
    if devices.is_main:
        print_run(result.report, folder, as_json)
