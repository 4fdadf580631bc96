"""Kill a real run at random moments: resumed, it ends with the same bits.

    python benchmarks/kills.py                  # 20 kills of a small run with all phases
    python benchmarks/kills.py --kills 5 --seed 1

A run is left alone once. Then copies of it are killed (SIGKILL), each at a moment drawn over the
time from its first file to its end, and resumed. What they leave is compared: the refined weights, the architecture,
the metrics, and the report without its measured milliseconds.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes=10, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.one, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.two = nn.Conv2d(width, width, 3, padding=1)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + self.two(torch.relu(self.norm(self.one(x))))
        return self.fc(x.mean((2, 3)))
"""
OPTIONS = [
    "--data", "digits", "--limit", "512", "--image-size", "16", "--device", "cpu", "--budget", "macs=80%",
    "--strategy", "controller", "--search-epochs", "4", "--trials", "80", "--samples", "4", "--epochs", "5",
]  # fmt: skip


def start(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "refiner.cli", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def to_end(arguments: list[str], folder: Path) -> None:
    process = start(arguments, folder)
    _, err = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(arguments)}: {err.decode()}")


def wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    while not file.exists():
        if process.poll() is not None:
            sys.exit(f"the run ended before it wrote anything: {process.communicate()[1].decode()}")
        time.sleep(0.01)


def final(run: Path) -> dict[str, Any]:
    """Return what a run leaves, without milliseconds."""
    report = json.loads((run / "report.json").read_text())
    return {
        "weights": {k: v.tobytes() for k, v in load_file(run / "refined.safetensors").items()},
        "report": {key: value for key, value in report.items() if not key.startswith("latenc")},
        "architecture": (run / "architecture.json").read_text(),
        "metrics": (run / "metrics.jsonl").read_text(),
    }


def reached(run: Path) -> str:
    """Return the last checkpoint that a killed run wrote."""
    files = sorted((run / "checkpoint").glob("*.pt"), key=lambda file: file.stat().st_mtime)
    return files[-1].stem if files else "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    (folder / "net.py").write_text(NET)
    model = "net.py:Net"
    to_end(["train", model, *OPTIONS[:8], "--epochs", "10", "--out", "trained"], folder)
    whole = [model, *OPTIONS, "--weights", "trained", "--out"]
    process = start([*whole, "whole"], folder)
    wait_for(folder / "whole" / "config.json", process)
    began = time.monotonic()
    process.communicate()
    took = time.monotonic() - began
    expected, draw, different = final(folder / "whole"), random.Random(args.seed), 0
    print(f"a run left alone took {took:.1f} s from its first file")
    for number in range(1, args.kills + 1):
        run = folder / f"run-{number}"
        moment = draw.uniform(0, took)
        process = start([*whole, run.name], folder)
        wait_for(run / "config.json", process)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        where = reached(run)
        to_end(["--resume", run.name, model], folder)
        found = final(run)
        off = [name for name, value in expected.items() if found[name] != value]
        different += bool(off)
        same = f"differs: {', '.join(off)}" if off else "equal"
        print(f"kill {number:2d} at {moment:5.1f} s, last checkpoint {where}: {same}", flush=True)
    shutil.rmtree(folder)
    print(f"{args.kills - different} of {args.kills} equal to the bit")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
