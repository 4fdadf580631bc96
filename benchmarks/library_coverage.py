"""How many models of other libraries can be refined, and how much of them channel groups reach.

    python benchmarks/library_coverage.py run   --out libraries    # every check, a process a model
    python benchmarks/library_coverage.py table --out libraries    # the table for README.md
    python benchmarks/library_coverage.py look smp:Unet-resnet18   # what is in reach, and what not

The checks are those of `coverage.py refine`, with `--slots group`. Models are built from their
configurations (`library_models.py`): ultralytics, transformers, segmentation-models-pytorch, MONAI, torchaudio,
diffusers, effdet and lightning have to be installed. A line of JSON is added to OUT/libraries.jsonl for each model; a
model that is there is not run again, so the command goes on where it was broken off. `--seconds` stops the
command before the first model that would begin later; each model may take `--limit` seconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from coverage import reason, refine_one
from library_models import LIBRARY_MODELS

import refiner
from refiner.core.randomness import seeded
from refiner.cost.costs import measure_cost

FORMS = ("torchscript", "onnx")
CHECKS = ("trace", "supernet_zero", "rewritten_zero", "gradients")


def check(name: str) -> dict[str, Any]:
    record: dict[str, Any] = {"name": name}
    start = time.perf_counter()
    try:
        with seeded(0):
            model, example = LIBRARY_MODELS[name]()
        with tempfile.TemporaryDirectory() as folder:
            record |= refine_one(model, example, Path(folder), "group", FORMS)
    except Exception as error:
        record["error"] = reason(error)
        record["traceback"] = traceback.format_exc()[-1500:]
    return record | {"seconds": time.perf_counter() - start}


def in_own_process(name: str, limit: int) -> dict[str, Any]:
    """Return what :func:`check` returns, with the peak memory of its process."""
    command = [sys.executable, __file__, "check", name]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"name": name, "error": f"more than {limit} s", "seconds": limit}
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"name"')]
    if lines:
        record: dict[str, Any] = json.loads(lines[-1])
        return record
    error = f"exit status {done.returncode}: {done.stderr[-300:]}"
    return {"name": name, "error": error, "seconds": time.perf_counter() - start}


def read(out: Path) -> list[dict[str, Any]]:
    file = out / "libraries.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def run(out: Path, names: list[str], limit: int, seconds: int) -> None:
    done, start = {record["name"] for record in read(out)}, time.monotonic()
    out.mkdir(exist_ok=True)
    for name in names:
        if name in done or time.monotonic() - start > seconds:
            continue
        record = in_own_process(name, limit)
        with (out / "libraries.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(row(record), flush=True)


def look(name: str) -> None:
    """Print the slots of a model and their shares of its MACs, and what is frozen for what reason."""
    with seeded(0):
        model, example = LIBRARY_MODELS[name]()
    space = refiner.search_space(model, example, granularity="group")
    whole = measure_cost(model, example, cross_check=False).macs
    for slot in space.slots:
        print(f"{100 * slot.macs / whole:5.1f} % {'group' if slot.is_group else 'conv '} "
              f"{slot.name}: {' > '.join(site.conv for site in slot.sites)}")  # fmt: skip
    for why, count in Counter(frozen.reason for frozen in space.frozen).most_common():
        names = [frozen.name for frozen in space.frozen if frozen.reason == why]
        print(f"{count} x {why}: {', '.join(names[:4])}")


def row(record: dict[str, Any]) -> str:
    def share(key: str) -> str:
        return f"{100 * record[key]:.0f} %" if key in record else ""

    exports = record.get("exports", {})
    exported = ["no" if exports.get(form, "FAIL")[:4] == "FAIL" else "yes" for form in FORMS]
    failed = [record.get("error") or record.get("no_slots") or ""]
    failed += [key for key in CHECKS if record.get(key) is False]
    cells = [
        record["name"], record.get("slots", ""), record.get("groups", ""), share("in_groups"),
        share("in_slots"), share("saved"), *exported, record.get("peak_mib", ""),
        round(record["seconds"]), "; ".join(filter(None, failed))[:90],
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def table(out: Path) -> None:
    print("| model | slots | groups | MACs in groups | MACs in slots | most saved | TorchScript "
          "| ONNX | peak MiB | s | |")  # fmt: skip
    print("| --- |" + " ---: |" * 5 + " --- | --- | ---: | ---: | --- |")
    records = read(out)
    for record in records:
        print(row(record))
    reached = [r for r in records if "slots" in r]
    for key in ("in_groups", "in_slots", "saved"):
        median = statistics.median(r.get(key, 0) for r in records)
        print(f"{key}: {100 * median:.0f} % in the median of {len(records)} models")
    holding = [sum(bool(r.get(key)) for r in reached) for key in CHECKS]
    print(f"{len(reached)} with slots; {dict(zip(CHECKS, holding, strict=True))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("run", "table", "look", "check"))
    parser.add_argument("models", nargs="*", help="all by default")
    parser.add_argument("--out", type=Path, default=Path("libraries"))
    parser.add_argument("--limit", type=int, default=240, help="seconds of a model")
    parser.add_argument("--seconds", type=int, default=10**6)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    names = given.models or list(LIBRARY_MODELS)
    if given.step == "run":
        run(given.out, names, given.limit, given.seconds)
    elif given.step == "table":
        table(given.out)
    elif given.step == "look":
        for name in names:
            look(name)
    else:
        os.environ["HF_HUB_OFFLINE"] = "1"
        print(json.dumps(check(names[0])))


if __name__ == "__main__":
    main()
