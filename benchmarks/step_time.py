"""Time and memory of a supernet's training step against those of the plain model.

resnet18 at 32x32, batch 64, SGD, on the CPU. The plain model and supernets of 2 and of 6 candidates a
slot take turns, step by step, so that noise of the machine hits all of them; the ratios are of medians.
A supernet step samples a fresh path. Its candidates here all run the original's operation, under
other names: so the ratio shows what the supernet adds, not what a cheaper candidate saves. Peak memory
is that of a process of its own a case. Last, the seconds from resnet50 to its supernet.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import nn

import refiner
from refiner.graph.conv_spec import ConvSpec
from refiner.search.random_search import RandomStrategy
from refiner.space.operations import build_conv

CASES = (0, 2, 6)
"""Candidates a slot; 0 is the plain model."""


def same_as_original(spec: ConvSpec) -> nn.Module:
    return build_conv(spec, kernel=spec.kernel_size[0])


NAMES = [f"same{i}" for i in range(1, 6)]
for name in NAMES:
    refiner.register_candidate(name, same_as_original)


class Case:
    """A model, its optimizer, and one step of training."""

    def __init__(self, candidates: int) -> None:
        model = timm.create_model("resnet18", num_classes=10)
        self.strategy = None
        self.model: nn.Module = model
        if candidates:
            x = torch.zeros(2, 3, 32, 32)
            space = refiner.search_space(model, x, candidates=NAMES[: candidates - 1])
            assert {len(names) for names in space.candidates} == {candidates}
            self.model = refiner.Supernet(model, space)
            self.strategy = RandomStrategy(space.candidates)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        start = time.perf_counter()
        if self.strategy is not None:
            self.model.select(self.strategy.ask(1)[0])
        loss = F.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return time.perf_counter() - start


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(64, 3, 32, 32, generator=generator), torch.arange(64) % 10


def high_water_mark() -> float:
    """Return the most memory that this process has held, in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def peak_memory(candidates: int) -> None:
    case, (x, y) = Case(candidates), batch()
    before = high_water_mark()
    for _ in range(10):
        case.step(x, y)
    print(high_water_mark(), before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--peak", type=int, help="used by the script itself")
    args = parser.parse_args()
    if args.peak is not None:
        peak_memory(args.peak)
        return
    cases, (x, y) = {c: Case(c) for c in CASES}, batch()
    times: dict[int, list[float]] = {c: [] for c in CASES}
    for i in range(args.rounds + 5):
        for j in range(len(CASES)):  # each case comes first, second and third in turn
            candidates = CASES[(i + j) % len(CASES)]
            seconds = cases[candidates].step(x, y)
            if i >= 5:
                times[candidates].append(seconds)
    median = {c: statistics.median(t) for c, t in times.items()}
    for c in CASES:
        command = [sys.executable, __file__, "--peak", str(c)]
        peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        parameters = sum(p.numel() for p in cases[c].model.parameters())
        print(
            f"{c} candidates: median step {1000 * median[c]:.1f} ms, "
            f"{median[c] / median[0]:.3f} of plain; peak {float(peak[0]):.0f} MiB "
            f"({float(peak[1]):.0f} before the first step), {parameters:,} parameters"
        )
    print(f"6 candidates / 2 candidates = {median[6] / median[2]:.3f}")
    model, x = timm.create_model("resnet50"), torch.randn(2, 3, 224, 224)
    start = time.perf_counter()
    space = refiner.search_space(model, x)
    refiner.Supernet(model, space)
    print(f"resnet50: trace + slots + supernet {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
