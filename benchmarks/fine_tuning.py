"""Which settings fine-tune a refined network best where there are few epochs.

    python benchmarks/fine_tuning.py run   --weights DIR --data DIR --out tuned --precision bf16
    python benchmarks/fine_tuning.py table --out tuned

The trained ResNet-20 of benchmarks/peers.py is made cheaper twice, with uniform width: to 50 % and
to 30 % of its MACs; candidates are distilled for 30 steps. The first is tuned for 1 and the second
for 3 epochs of 8,000 pictures. Each setting is changed in turn and the
best value is kept. Then the outcome and the settings before are compared after 10 epochs.

A moving average changes nothing of a training, so each training gives the accuracy with every decay.

Accuracy is that on 5,000 pictures of the training part, which train nothing here. Each training is
a line of OUT/results.jsonl. It goes on from its last epoch, and so does the same command.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peers.networks import Parts, Pass, cifar, trained_resnet
from peers.uniform import UniformWidth
from torch import nn

import refiner
from refiner.core.progress import Silent
from refiner.core.randomness import derive_seed, seeded
from refiner.core.surgery import copied
from refiner.data.tensor_loader import TensorLoader
from refiner.distill.distillation import DistillConfig
from refiner.search.search import SearchConfig
from refiner.training.averaging import MovingAverage
from refiner.training.devices import PRECISIONS, Devices
from refiner.training.evaluation import evaluate
from refiner.training.loop import TrainConfig, WeightTrainer
from refiner.training.task import Classification, softened_divergence
from refiner.training.teacher import WithTeacher

NETWORKS = {"uniform 50 %": (50, UniformWidth), "uniform 30 %": (30, UniformWidth)}
SHORT = (("uniform 50 %", 1), ("uniform 30 %", 3))
LONG = (("uniform 30 %", 10),)
"""Networks and epochs. With fewer than 15, the schedule `sgdr` has one cycle and equals `cosine`."""
BEFORE: dict[str, Any] = {
    "lr_max": 0.01, "teacher_weight": 0.5, "temperature": 4.0, "warmup_steps": 0, "weight_decay": 5e-4
}  # fmt: skip
"""The defaults until this benchmark."""
FACTORS: dict[str, tuple[Any, ...]] = {
    "lr_max": (0.01, 0.005, 0.02, 0.05),
    "teacher_weight": (0.5, 0.9, 1.0),
    "temperature": (4.0, 2.0, 1.0),
    "warmup_steps": (0, 50),
    "weight_decay": (5e-4, 0.0),
}
"""Values in the order of preference: a later one has to gain ``LEAST`` to be kept."""
DECAYS = (0.0, 0.99)
"""Of the moving average; 0 is none."""
LEAST = 0.001
EPOCH, CHOSEN_ON = 8000, 5000
Key = tuple[str, int, str]
"""Network, epochs and settings."""
Scores = dict[str, float]
"""Accuracy by decay."""


class Softened(Classification):
    """The task with another temperature of the teacher's outputs."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def divergence(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return softened_divergence(output, target, self.temperature)


def read(out: Path) -> dict[Key, Scores]:
    file = out / "results.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    records = [json.loads(line) for line in lines]
    return {(r["network"], r["epochs"], named(r["settings"])): r["accuracy"] for r in records}


def named(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def mean_of(settings: dict[str, Any], found: dict[Key, Scores]) -> float:
    """Return the mean accuracy after the short trainings, with the decay that serves it best."""
    key = named(settings)
    return max(
        statistics.mean(found[name, epochs, key][str(decay)] for name, epochs in SHORT)
        for decay in DECAYS
    )


def plan(found: dict[Key, Scores]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield what to train, in an order in which each choice is known once it is needed.

    ``found`` grows in between.
    """
    best = BEFORE
    for name, values in FACTORS.items():
        tried = [{**best, name: value} for value in values]
        for settings in tried:
            for network, epochs in SHORT:
                yield network, epochs, settings
        for settings in tried:
            if mean_of(settings, found) >= mean_of(best, found) + LEAST:
                best = settings
    for network, epochs in LONG:
        yield network, epochs, BEFORE
        yield network, epochs, best


def made(name: str, parts: Parts, original: nn.Module, args: argparse.Namespace) -> nn.Module:
    """Return one of the cheaper networks, before any fine-tuning."""
    file = args.out / f"{name.replace(' ', '-').rstrip('-%')}.pt"
    if not file.exists():
        share, strategy = NETWORKS[name]
        search = SearchConfig(
            trials=1, epochs=1, samples=1, top_k=1, front=0, warmup_epochs=0, train_weights=False,
            recalibration_batches=4,
        )  # fmt: skip
        result = refiner.refine(
            original, parts.train, parts.held, example_input=torch.zeros(1, 3, 32, 32),
            budget=f"macs={share}%", strategy=strategy, distill=DistillConfig(steps=30), search=search,
            baselines=False, progress=False, device=args.device, precision=args.precision,
        )  # fmt: skip
        torch.save(result.model, file)
    network: nn.Module = torch.load(file, weights_only=False)
    return network


def tuned(
    network: nn.Module, original: nn.Module, parts: Parts, devices: Devices, epochs: int,
    settings: dict[str, Any], kept: Path, deadline: float,
) -> Scores | None:  # fmt: skip
    """Return the accuracy of a network after its fine-tuning; None if time ran out."""
    given = dict(settings)
    task = WithTeacher(
        Softened(given.pop("temperature")), original, weight=given["teacher_weight"]
    )  # fmt: skip
    network, config = copied(network), TrainConfig(epochs=epochs, **given)
    trainer = WeightTrainer(network, task, devices, config, epochs)
    averages = [MovingAverage([network], decay, devices) for decay in DECAYS]

    def update() -> None:
        for average in averages:
            average.update()

    parties = [trainer, *averages]
    states = torch.load(kept, weights_only=False) if kept.exists() else []
    for party, state in zip(parties, states):
        party.load_state_dict(state)
    for epoch in range(states[-1] if states else 0, epochs):
        if time.monotonic() > deadline:
            return None
        with seeded(derive_seed(0, "train", epoch)):
            trainer.epoch(parts.train, epoch, Silent(), after_step=update)
        torch.save([*(party.state_dict() for party in parties), epoch + 1], kept)
    found = {}
    for decay, average in zip(DECAYS, averages):
        average.put_in_place()
        found[str(decay)] = evaluate(network, parts.held, task, devices)
    kept.unlink()
    return found


def run(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * args.minutes
    devices = Devices.choose(args.device, args.precision)
    parts = pictures(cifar(args.data, args.out / "cifar.pt", epoch=EPOCH, batch=64))
    parts = parts.to(devices.device)
    original = devices.move(trained_resnet(20, args.weights))
    networks = {name: made(name, parts, original, args) for name in NETWORKS}
    found = read(args.out)
    for name, epochs, settings in plan(found):
        key = (name, epochs, named(settings))
        if key in found:
            continue
        if time.monotonic() > deadline:
            return
        start = time.perf_counter()
        kept = args.out / "kept.pt"
        accuracy = tuned(
            networks[name], original, parts, devices, epochs, settings, kept, deadline
        )  # fmt: skip
        if accuracy is None:
            return
        found[key] = accuracy
        record: dict[str, Any] = {
            "network": name,
            "epochs": epochs,
            "settings": settings,
            "accuracy": accuracy,
        }
        record["seconds"] = round(time.perf_counter() - start, 1)
        with (args.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)


def pictures(parts: Parts) -> Parts:
    """Return parts whose held pictures are some that would train elsewhere."""
    whole, size = parts.train, CHOSEN_ON
    plain = {"mean": whole.mean.flatten(), "std": whole.std.flatten()}
    train_part = Pass(
        whole.images[size:], whole.labels[size:], batch_size=64, train=True, pad=4, flip=True,
        pictures=EPOCH, **plain,
    )  # fmt: skip
    held = TensorLoader(
        whole.images[:size], whole.labels[:size], batch_size=500, train=False, **plain
    )
    return replace(parts, train=train_part, held=held)


def print_table(out: Path) -> None:
    found, shown = read(out), set()
    runs = [*SHORT, *LONG]
    print(
        "Accuracy %; in brackets with a moving average of decay " + ", ".join(map(str, DECAYS[1:]))
    )
    heads = [f"{name}, epochs: {epochs}" for name, epochs in runs]
    print(f"\n| settings | {' | '.join(heads)} |\n|{' --- |' * (1 + len(heads))}")
    for _, _, settings in _finished(found):
        key = named(settings)
        if key not in shown:
            shown.add(key)
            changed = ", ".join(f"{k} {v}" for k, v in settings.items() if v != BEFORE[k])
            row = [_cell(found.get((*run, key))) for run in runs]
            print(f"| {changed or 'before'} | {' | '.join(row)} |")


def _cell(scores: Scores | None) -> str:
    if scores is None:
        return ""
    plain, *averaged = (f"{100 * scores[str(decay)]:.2f}" for decay in DECAYS)
    return f"{plain} ({', '.join(averaged)})"


def _finished(found: dict[Key, Scores]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for name, epochs, settings in plan(found):
        if (name, epochs, named(settings)) not in found:
            return
        yield name, epochs, settings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("action", choices=("run", "table"))
    add("--out", type=Path, required=True)
    add("--weights", type=Path, help="folder of the trained ResNets")
    add("--data", type=Path, help="folder of CIFAR-10: train/CLASS/*.jpg")
    add("--device", default="auto")
    add("--precision", choices=PRECISIONS, default="no")
    add("--minutes", type=float, default=1e9, help="stop after so many, to go on later")
    args = parser.parse_args()
    if args.action == "table":
        print_table(args.out)
    else:
        run(args)


if __name__ == "__main__":
    main()
