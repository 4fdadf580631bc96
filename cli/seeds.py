"""``refine MODEL --seeds N``: one run with several seeds, and a report over them."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from refiner.core.errors import ConfigError, RunError
from refiner.runs.report import Report
from refiner.runs.run_folder import RunFolder, check_free
from refiner.runs.seeds import NO_COMPARISON, SeedsReport

from .consent import Consent
from .request import RunRequest, kept_form, request_from
from .run import carry_out
from .screen import print_table, say

_FILE = "seeds.json"
_MOST_SEEDS = 10_000


def start_seeds(request: RunRequest, count: int, *, out: Path | None, as_json: bool) -> None:
    """Begin a run for each of the seeds from ``--seed`` on, all in folders inside one."""
    if count < 2:
        raise ConfigError(f"--seeds is {count}. Give 2 or more, or leave it out.")
    folder = request.source.new_folder() if out is None else out
    request.check()
    devices = request.devices()
    request = request.readable_anywhere()
    if devices.is_main:
        check_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        document = {"seeds": count, "command": kept_form(request)}
        RunFolder(folder).write_json(_FILE, document)
    devices.accelerator.wait_for_everyone()
    try:
        _carry_out(request, count, folder, as_json=as_json)
    except Exception:
        if devices.is_main and not any(folder.glob("seed-*/config.json")):
            (folder / _FILE).unlink(missing_ok=True)  # nothing was begun that could go on
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def holds_seeds(folder: Path) -> bool:
    """Return whether a folder holds the runs of several seeds."""
    return (folder / _FILE).is_file()


def resume_seeds(folder: Path, *, consent: Consent, log: Sequence[str], as_json: bool) -> None:
    """Go on with the runs of several seeds; finished ones stay."""
    kept = RunFolder(folder).read_json(_FILE)
    request = request_from(RunRequest, kept.get("command"), folder)
    if type(kept.get("seeds")) is not int or not 2 <= kept["seeds"] <= _MOST_SEEDS:
        raise RunError(f"{folder}/{_FILE} is damaged. Begin a new run.")
    with consent.given(folder, request.sources, f"refine --resume {folder}"):
        request = request.trusting(consent.trust_weights).logging_to(log)
        _carry_out(request, kept["seeds"], folder, as_json=as_json)


def show_seeds(folder: Path, *, as_json: bool) -> None:
    """Print what the finished runs of several seeds found together, and write report.md."""
    found = [f for f in folder.glob("seed-*/report.json") if f.parent.name[5:].isdecimal()]
    files = sorted(found, key=lambda f: int(f.parent.name[5:]))
    if len(files) < 2:
        raise RunError(
            f"{folder} holds {len(files)} finished runs, and a report over seeds needs two. Go on "
            f"with refine --resume {folder}."
        )
    reports = [Report.from_json(RunFolder.open(file.parent).read_json(file.name)) for file in files]
    _print_seeds(reports, folder, as_json)


def _carry_out(request: RunRequest, count: int, folder: Path, *, as_json: bool) -> None:
    first = request.given.get("seed", 0)
    for seed in range(first, first + count):
        inner = folder / f"seed-{seed}"
        if not (inner / "report.json").is_file():
            begun = (inner / "config.json").is_file()
            one = replace(request, given={**request.given, "seed": seed})
            carry_out(one, inner, resume=begun, shown=folder)
    if request.devices().is_main:
        show_seeds(folder, as_json=as_json)


def _print_seeds(reports: Sequence[Report], folder: Path, as_json: bool) -> None:
    over = SeedsReport.of(reports)
    RunFolder(folder).write_text("report.md", over.to_markdown())
    if as_json:
        print(json.dumps({"folder": str(folder), **asdict(over)}))
        return
    print_table(
        f"{len(reports)} seeds, mean ± standard deviation",
        ("", "MACs", "parameters", over.metric),
        over.table(),
    )
    if over.images:
        say(over.images)
    say(over.comparison or NO_COMPARISON)
    print()
    say(f"{folder}: {' '.join(sorted(path.name for path in folder.iterdir()))}")
