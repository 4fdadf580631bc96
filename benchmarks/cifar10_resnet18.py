"""Tables 5 and 6 of the paper: ResNet-18-8 and -16 on CIFAR-10, R and RP, search and final training.

One run a cell: slots (block gives 8, conv 16) x warm-up (0 epochs is R, some is RP). Each run is
`refiner.refine` into a folder of its own, so a step that is broken off resumes where it was: with
--minutes the script stops by itself before that many are over, and the same command goes on.

On a GPU:  python benchmarks/cifar10_resnet18.py --data DIR --out results --minutes 8
On a CPU:  python benchmarks/cifar10_resnet18.py --data DIR --out results --small

DIR holds train/CLASS/*.jpg. ResNet-18 is timm's with the stem that is usual for 32x32 images: a
conv3x3 of stride 1 and no pooling. The paper does not tell its stem; its 93.46 % for ResNet-18 is
within reach of this one only. A fifth of the training images is the validation part that the search
and the accuracies here are measured on.
"""

import argparse
import json
import time
from pathlib import Path

import timm
import torch
from torch import nn

import refiner
from refiner.core.progress import Lines


class OutOfTimeError(Exception):
    """The step's minutes are over; the run's folder holds all but the current epoch."""


class Deadline(Lines):
    """Plain lines, until the time is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.until = time.monotonic() + seconds

    def advance(self, steps: int = 1, **values: float | str) -> None:
        super().advance(steps, **values)
        if time.monotonic() > self.until:
            raise OutOfTimeError


def resnet18() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("resnet18", num_classes=10)
        model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = nn.Identity()
        return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with train/CLASS/*.jpg")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop before so many are over")
    parser.add_argument("--small", action="store_true", help="few images and epochs, for a CPU")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    small, gpu = args.small, torch.cuda.is_available()
    progress = Deadline(60 * args.minutes - 20)
    batch_size = 64 if small else 128
    data = refiner.load_data(
        f"folder:{args.data}", batch_size=batch_size, limit=1000 if small else None
    )
    epochs = (
        {"search": 2, "warm": 1, "train": 2} if small else {"search": 120, "warm": 30, "train": 150}
    )
    rows = []
    for seed in range(args.seeds):
        for slots in ("block", "conv"):
            for kind in ("R", "RP"):
                warm = epochs["warm"] if kind == "RP" else 0
                # R and RP train the shared weights for equally many epochs.
                searching = epochs["search"] + epochs["warm"] - warm
                search = refiner.SearchConfig(
                    epochs=searching,
                    warmup_epochs=warm,
                    trials=searching * (2 * 4 if small else 10 * 10),
                    samples=4 if small else 10,
                    recalibration_batches=2 if small else 4,
                )
                name = f"resnet18-{8 if slots == 'block' else 16}-{kind}-{seed}"
                out = args.out / name
                report = out / "report.json"
                if not report.exists():
                    try:
                        refiner.refine(
                            resnet18(), data.train, data.val, slots=slots, search=search,
                            train=refiner.TrainConfig(epochs=epochs["train"]), seed=seed,
                            precision="bf16" if gpu else "no", out=_folder(out),
                            resume=(out / "checkpoint" / "search.pt").exists(), progress=progress,
                        )  # fmt: skip
                    except OutOfTimeError:
                        print(f"{name}: time is over; run the same command to go on")
                        return
                found = json.loads(report.read_text())
                rows.append((name, found))
    print("| run | vector | MACs | parameters | original | refined |\n|" + " --- |" * 6)
    for name, r in rows:
        print(
            f"| {name} | {','.join(map(str, r['vector']))} "
            f"| {r['after']['macs'] / r['before']['macs']:.3f} "
            f"| {r['after']['params'] / r['before']['params']:.3f} "
            f"| {r['trained']['original']:.4f} | {r['trained']['refined']:.4f} |"
        )


def _folder(out: Path) -> Path:
    """Return ``out``, after removing a run that was broken off before its first checkpoint."""
    config, checkpoint = out / "config.json", out / "checkpoint"
    if config.exists() and not (checkpoint / "search.pt").exists():
        config.unlink()
        for file in (*checkpoint.glob("*"), *out.glob("metrics.jsonl*")):
            file.unlink()
        checkpoint.rmdir()
    return out


if __name__ == "__main__":
    main()
