"""Seconds of a run of the command alone, and beside processes that keep every processor busy.

The settings take turns, so that noise of the machine hits all of them. They are threads that sleep
soon, as the command sets them; threads that spin for as long as GNU's OpenMP lets them by default; and
one thread. The job is a short one of the kind of ``make demo``, or with ``--demo`` the demo itself.

    python benchmarks/beside_other_work.py --rounds 3
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = {
    "as the command sets it": {},
    "threads that spin": {"GOMP_SPINCOUNT": "300000"},
    "threads that never spin": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
JOB = ["timm:resnet18", "--data", "digits", "--slots", "conv", "--strategy", "controller"]
SHORT = [
    "--limit", "100", "--batch-size", "32", "--warmup-epochs", "1", "--search-epochs", "1",
    "--trials", "2", "--epochs", "1",
]  # fmt: skip
DEMO = ["--warmup-epochs", "3", "--search-epochs", "6", "--trials", "300", "--epochs", "5"]
USERS = ("OMP_", "GOMP_", "KMP_", "MKL_")


def seconds(job: list[str], environment: dict[str, str], limit: float) -> float:
    """Return the seconds of one run, or infinity where it takes longer than ``limit``."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith(USERS)}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        try:
            subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "refiner.cli", *job, "--out", f"{folder}/run"],
                env=bare | environment, check=True, capture_output=True, timeout=limit,
                cwd=Path(__file__).parents[1],
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return float("inf")
        return time.perf_counter() - start


def beside(count: int) -> list[subprocess.Popen[bytes]]:
    """Start processes that compute without end."""
    return [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=os.cpu_count(), help="processes beside the run")
    parser.add_argument("--demo", action="store_true", help="the whole of make demo")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="separated by commas")
    parser.add_argument("--limit", type=float, default=3600, help="most seconds of a run")
    options = parser.parse_args()
    job = [*JOB, *(DEMO if options.demo else SHORT)]
    names = options.settings.split(",")
    found: dict[tuple[str, int], list[float]] = {
        (n, b): [] for n in names for b in (0, options.busy)
    }
    for _ in range(options.rounds):
        for busy in (0, options.busy):
            for name in names:
                others = beside(busy)
                try:
                    found[name, busy].append(seconds(job, SETTINGS[name], options.limit))
                finally:
                    for other in others:
                        other.kill()
                        other.wait()
                print(f"{busy} beside, {name}: {found[name, busy][-1]:.1f} s, "
                      f"load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
    print(
        f"\n| threads | alone (s) | beside {options.busy} (s) | ratio |\n| --- | --- | --- | --- |"
    )
    for name in names:
        alone, crowded = (statistics.median(found[name, busy]) for busy in (0, options.busy))
        print(f"| {name} | {alone:.1f} | {crowded:.1f} | {crowded / alone:.1f} |")


if __name__ == "__main__":
    main()
