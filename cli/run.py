"""``refine MODEL`` and ``refine --resume``."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import refiner
from refiner.core.errors import ConfigError
from refiner.runs.report import Report
from refiner.runs.run_folder import RunFolder, check_free

from .consent import Consent, again
from .preparing import origin
from .recipes import kept_recipe, resume_recipe
from .request import RunRequest, kept_form, kept_request
from .screen import listening, print_report, say


def start_run(request: RunRequest, *, out: Path | None, as_json: bool) -> None:
    """Begin a run in a new folder."""
    folder = request.source.new_folder() if out is None else out
    check_free(folder)
    request.check()
    report = carry_out(request.readable_anywhere(), folder, resume=False)
    if report is not None:
        print_run(report, folder, as_json)


def resume_run(folder: Path, *, consent: Consent, log: Sequence[str], as_json: bool) -> None:
    """Go on with a run, with the settings that its folder keeps."""
    recipe = kept_recipe(folder)
    if recipe is not None:
        if log:
            raise ConfigError("--log does not go with a recipe. Leave it out.")
        resume_recipe(recipe, folder, consent=consent, as_json=as_json)
        return
    run = RunFolder.open(folder)
    if run.holds("report.json"):
        print(f"This run is finished. `refine report {folder}` shows it again.", file=sys.stderr)
        print_run(Report.from_json(run.read_json("report.json")), folder, as_json)
        return
    request = kept_request(RunRequest, folder).trusting(consent.trust_weights).logging_to(log)
    with consent.given(folder, request.sources, f"refine --resume {folder}"):
        report = carry_out(request, folder, resume=True)
    if report is not None:
        print_run(report, folder, as_json)


def carry_out(
    request: RunRequest, folder: Path, *, resume: bool, shown: Path | None = None
) -> Report | None:
    """Begin a run or go on with it, and return its report; None where another process prints it.

    Args:
        request: of the run.
        folder: of the run.
        resume: whether it goes on.
        shown: folder that ``--resume`` goes on with, where it is not ``folder``.
    """
    settings, source = request.settings(), request.source
    devices = request.devices()
    resume_line = f"refine --resume {shown or folder}{again(request.sources)}"
    with listening(folder, resume_line, shown or folder, request.log) as progress:
        # Before data is read, and after the model's file could register its own candidates.
        spec, model, data, task, tests = source.load(first=lambda: settings.offer.check("group"))
        for note in source.notes(data) if devices.is_main else ():
            progress.note(note)
        result = refiner.refine(
            model, data.train, data.val, test_loader=data.test,
            task=task, tests=tests, out=folder, resume=resume, progress=progress,
            force=request.force,
            provenance=origin(spec, kept_form(request), data),
            settings=settings,
        )  # fmt: skip
    return result.report if devices.is_main else None


def print_run(report: Report, folder: Path, as_json: bool) -> None:
    """Print a run's report and the files of its folder."""
    if as_json:
        print(json.dumps({"folder": str(folder), **report.to_json()}))
    else:
        print_report(report)
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        print()
        say(f"{folder}: {' '.join(files)}")
