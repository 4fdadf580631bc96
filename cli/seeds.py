"""``refine MODEL --seeds N``: one run with several seeds, and a report over them."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from refiner.api import check_settings
from refiner.core.errors import ConfigError, RunError
from refiner.cost.budget import parse_budgets
from refiner.runs.report import Report
from refiner.runs.run_folder import RunFolder, check_free
from refiner.runs.seeds import NO_COMPARISON, SeedsReport

from .options import options_from
from .run import RunOptions, carry_out, check_run
from .screen import print_table

_FILE = "seeds.json"


def start_seeds(options: RunOptions, count: int, *, out: Path | None, as_json: bool) -> None:
    """Begin a run for each of the seeds from ``options.seed`` on, all in folders inside one."""
    if count < 2:
        raise ConfigError(f"--seeds is {count}. Give 2 or more, or leave it out.")
    folder = options.free_folder() if out is None else out
    check_run(options)
    options.configs(), parse_budgets(options.budget)
    devices = check_settings(options.slots, options.strategy, options.device, options.precision)
    options = options.absolute()
    if devices.is_main:
        check_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        RunFolder(folder).write_json(_FILE, {"seeds": count, "command": asdict(options)})
    devices.accelerator.wait_for_everyone()
    try:
        _carry_out(options, count, folder, as_json=as_json)
    except Exception:
        if devices.is_main and not any(folder.glob("seed-*/config.json")):
            (folder / _FILE).unlink(missing_ok=True)  # nothing was begun that could go on
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def holds_seeds(folder: Path) -> bool:
    """Return whether a folder holds the runs of several seeds."""
    return (folder / _FILE).is_file()


def resume_seeds(folder: Path, *, model: str | None, as_json: bool) -> None:
    """Go on with the runs of several seeds: finished ones stay as they are."""
    kept = RunFolder(folder).read_json(_FILE)
    options = options_from(RunOptions, kept.get("command"), folder, model)
    if not isinstance(kept.get("seeds"), int):
        raise RunError(f"{folder}/{_FILE} is damaged. Begin a new run.")
    _carry_out(options, kept["seeds"], folder, as_json=as_json)


def show_seeds(folder: Path, *, as_json: bool) -> None:
    """Print what the finished runs of several seeds found, all together, and write report.md."""
    files = sorted(
        folder.glob("seed-*/report.json"), key=lambda f: int(f.parent.name.partition("-")[2])
    )
    if len(files) < 2:
        raise RunError(
            f"{folder} holds {len(files)} finished runs, and a report over seeds wants two. Go on with "
            f"refine --resume {folder}."
        )
    _tell(
        [Report.from_json(RunFolder.open(file.parent).read_json(file.name)) for file in files],
        folder,
        as_json,
    )


def _carry_out(options: RunOptions, count: int, folder: Path, *, as_json: bool) -> None:
    for seed in range(options.seed, options.seed + count):
        inner = folder / f"seed-{seed}"
        if not (inner / "report.json").is_file():
            begun = (inner / "config.json").is_file()
            carry_out(replace(options, seed=seed), inner, resume=begun, shown=folder)
    devices = check_settings(options.slots, options.strategy, options.device, options.precision)
    if devices.is_main:
        show_seeds(folder, as_json=as_json)


def _tell(reports: Sequence[Report], folder: Path, as_json: bool) -> None:
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
    print(over.comparison or NO_COMPARISON)
    print(f"\n{folder}: {' '.join(sorted(path.name for path in folder.iterdir()))}")
