"""``refine compare``: the networks of several runs side by side."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refiner.core.types import JsonDict
from refiner.cost.latency import Latency
from refiner.runs.report import Report
from refiner.runs.run_folder import RunFolder

from .tables import print_table, say


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One trained network of one run."""

    run: str
    network: str
    vector: tuple[int, ...]
    macs: int
    params: int
    latency: Latency | None
    runtime: str
    """That the latency was measured in, with its version."""
    epochs: int | None
    scores: dict[str, float]


def compare(folders: Sequence[Path], *, as_json: bool) -> None:
    """Print a column for each network that the runs trained; JSON with all of it if asked."""
    rows: list[_Row] = []
    folders = [run for folder in folders for run in runs_in(folder)]
    for folder in folders:
        *originals, own = _rows(folder)
        rows += [row for row in originals if not _shown(row, rows)] + [own]
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    if as_json:
        print(json.dumps([_document(row) for row in rows]))
        return
    names_of = _short_names(folders)
    measures = [
        ("MACs", [f"{row.macs:,}" for row in rows]),
        ("parameters", [f"{row.params:,}" for row in rows]),
        (
            "latency",
            ["" if row.latency is None else str(row.latency) for row in rows],
        ),
        (
            "runtime",
            ["" if row.latency is None else row.runtime for row in rows],
        ),
        ("epochs", ["" if row.epochs is None else str(row.epochs) for row in rows]),
        *((n, [f"{r.scores[n]:.4f}" if n in r.scores else "" for r in rows]) for n in names),
    ]
    print_table(
        "Networks",
        ("", *(f"{names_of[row.run]}\n{row.network}" for row in rows)),
        [(measure, *values) for measure, values in measures],
    )
    for row in rows:
        if any(row.vector):
            say(f"{names_of[row.run]}: {','.join(map(str, row.vector))}")


def runs_in(folder: Path) -> list[Path]:
    """Return the folder, or those of the finished runs that a recipe put into it."""
    inner = sorted(path.parent for path in folder.glob("*/report.json"))
    inner = [path for path in inner if (path / "config.json").is_file()]
    return [folder] if (folder / "config.json").is_file() or not inner else inner


def _short_names(folders: Sequence[Path]) -> dict[str, str]:
    """Return for each folder the part of its path that differs from the others."""
    if len(folders) < 2:
        return {str(folder): str(folder) for folder in folders}
    shared = Path(os.path.commonpath([folder.absolute().parent for folder in folders]))
    return {str(folder): str(folder.absolute().relative_to(shared)) for folder in folders}


def _shown(row: _Row, rows: Sequence[_Row]) -> bool:
    """Return whether another run showed this original: two reports can tell of one network."""
    return any(
        (other.vector, other.macs, other.params, other.epochs, other.scores)
        == (row.vector, row.macs, row.params, row.epochs, row.scores)
        for other in rows
    )


def _rows(folder: Path) -> list[_Row]:
    report = Report.from_json(RunFolder.open(folder).read_json("report.json"))
    trained = report.trained
    refined: dict[str, float] = {}
    original: dict[str, float] = {}
    measured = [
        (f"{report.score_name} before fine-tuning", report.original_score, report.refined_score)
    ]
    if trained is not None:
        measured += [(report.score_name, trained.original, trained.refined), *trained.tests]
    elif report.refined_score is None:
        measured.append((f"{report.measure} in the search", None, report.found))
    for name, before, after in measured:
        if before is not None:
            original[name] = before
        if after is not None:
            refined[name] = after
    epochs = None if trained is None else trained.epochs
    timed = report.latencies[0] if report.latencies else None
    runtime = "" if timed is None else timed.conditions.runtime
    changed = any(report.vector)
    rows = [
        _Row(
            run=str(folder),
            network="refined" if changed else "original",
            vector=report.vector,
            macs=report.after.macs,
            params=report.after.params,
            latency=None if timed is None else timed.after,
            runtime=runtime,
            epochs=epochs,
            scores=refined,
        )
    ]
    if original:
        row = _Row(
            run=str(folder),
            network="original",
            vector=(0,) * len(report.vector),
            macs=report.before.macs,
            params=report.before.params,
            latency=None if timed is None else timed.before,
            runtime=runtime,
            epochs=epochs,
            scores=original,
        )
        rows.insert(0, row)
    return rows


def _document(row: _Row) -> JsonDict:
    return {
        "run": row.run,
        "network": row.network,
        "vector": list(row.vector),
        "macs": row.macs,
        "params": row.params,
        "latency_ms": None if row.latency is None else row.latency.median,
        "latency_noise_ms": None if row.latency is None else row.latency.noise,
        "runtime": row.runtime,
        "epochs": row.epochs,
        "scores": row.scores,
    }
