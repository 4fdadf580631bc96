"""How well estimated effects of swaps rank, what they cost, and what a search that goes by them finds.

    python benchmarks/saliency.py FILE.py:FUNCTION --images DIR --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --out OUT

DIR holds ``CLASS/*.jpg``, and FUNCTION returns a trained network with an output for each class in alphabetical order.
In a random order, the first images are for training, the next for validation, and the last for the test. The candidates
are distilled, their effects estimated, and single swaps and random architectures measured. Then each strategy searches
with the same evaluations: agreement on validation images after BN recalibration. The best of its ten recommendations on
all validation images is tested. OUT keeps the supernet and every measured score, and the same command goes on from there.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from rank_correlation import tau
from torch import nn

import refiner
from refiner.core.models import ModelSpec
from refiner.cost.budget import parse_budgets, within_budgets
from refiner.cost.feasible import FeasibleSet
from refiner.distill.distillation import DistillConfig, distill
from refiner.search.effects import Effects, one_swap
from refiner.search.milp import MilpStrategy
from refiner.search.norm_shift import NormShift
from refiner.search.random_search import RandomStrategy
from refiner.search.saliency import estimate_effects
from refiner.search.strategy import Strategy
from refiner.space.architecture import Vector
from refiner.space.supernet import Supernet
from refiner.training.agreement import Agreement
from refiner.training.devices import Devices
from refiner.training.evaluation import evaluate_both, recalibrate
from refiner.training.task import Classification

DRAWS, SAMPLES, TOP_K = 2, 10, 10
Batches = list[tuple[torch.Tensor, torch.Tensor]]


def picture(file: Path, size: int | None) -> np.ndarray:
    image = Image.open(file).convert("RGB")
    return np.array(image if size is None else ImageOps.fit(image, (size, size)))


def pictures(
    folder: Path,
    count: int,
    size: int | None,
    normalise: Callable[[torch.Tensor], torch.Tensor],
) -> Batches:
    """Return images one by one, with their labels, in a random order; scaled to a size, if given."""
    classes = sorted(path.name for path in folder.iterdir())
    files = [
        (file, k) for k, name in enumerate(classes) for file in sorted((folder / name).iterdir())
    ]
    random.Random(0).shuffle(files)
    images = [torch.from_numpy(picture(file, size)) for file, _ in files[:count]]
    return list(zip(normalise(torch.stack(images).permute(0, 3, 1, 2)),
                    torch.tensor([k for _, k in files[:count]]), strict=True))  # fmt: skip


def batched(images: Batches, size: int) -> Batches:
    """Return single images in batches."""
    parts = [images[i : i + size] for i in range(0, len(images), size)]
    return [(torch.stack([x for x, _ in p]), torch.stack([y for _, y in p])) for p in parts]


class Measured:
    """Agreement and accuracy of architectures, each measured once and kept in a file."""

    def __init__(
        self, net: Supernet, model: nn.Module, train: Batches, devices: Devices, file: Path
    ):
        self.net, self.train, self.devices, self.file = net, train, devices, file
        self.agreement = Agreement(Classification(), model)
        self.shift = NormShift(net)
        self.kept = json.loads(file.read_text()) if file.exists() else {}
        self.seconds: list[float] = []

    def recalibrate(self, vector: Vector) -> set[nn.Module]:
        self.net.select(vector)
        return recalibrate(self.net.model, self.train, self.agreement.task, self.devices)

    def __call__(self, vector: Vector, batches: Batches, name: str) -> tuple[float, float]:
        key = f"{name} {','.join(map(str, vector))}"
        if key not in self.kept:
            started = time.process_time()
            if not self.shift.measured:
                self.recalibrate((0,) * len(vector))
                self.shift.measure()
            self.shift.correct(self.recalibrate(vector))
            (both,) = evaluate_both([lambda: self.net.model], batches, self.agreement, self.devices)
            self.kept[key] = [*both, time.process_time() - started]
            self.file.write_text(json.dumps(self.kept))
        agreement, accuracy, seconds = self.kept[key]
        self.seconds.append(seconds)
        return agreement, accuracy


def ranks(
    name: str, effects: Effects, vectors: list[Vector], score: Callable[[Vector], float]
) -> str:
    """Return a line of the table of rank correlations."""
    estimates = np.array([effects.loss(vector) for vector in vectors])
    losses = np.array([-score(vector) for vector in vectors])
    log = np.corrcoef(np.log(estimates), np.log(losses))[0, 1]
    return (
        f"| {name} | {len(vectors)} | {tau(estimates, losses):+.2f} | {log:.2f} | "
        f"{np.median(estimates / losses):.2f} | {losses.min():.3f} to {losses.max():.3f} |"
    )


def play(strategy: Strategy, trials: int, score: Callable[[Vector], float]) -> Strategy:
    """Let a strategy ask for so many scores."""
    for done in range(0, trials, SAMPLES):
        vectors = strategy.ask(min(SAMPLES, trials - done))
        strategy.tell(vectors, [score(vector) for vector in vectors])
    return strategy


def players(
    candidates: tuple[tuple[str, ...], ...],
    feasible: FeasibleSet,
    effects: Effects,
    args: argparse.Namespace,
) -> dict[str, Callable[[Callable[[Vector], float]], Strategy]]:
    """Return what plays each strategy, by name."""

    def informed(trials: int) -> Callable[[Callable[[Vector], float]], Strategy]:
        def run(score: Callable[[Vector], float]) -> Strategy:
            strategy = MilpStrategy(candidates, seed=args.seed, feasible=feasible)
            strategy.inform(effects)
            return play(strategy, trials, score)

        return run

    cost = max(effects.sizes) + DRAWS
    found = {f"milp, estimates and {trials} trials": informed(trials) for trials in args.trials}
    if args.measured:
        found[f"milp, {args.measured} trials"] = lambda score: play(
            MilpStrategy(candidates, seed=args.seed, feasible=feasible), args.measured, score
        )
    for trials in args.trials:
        if trials:
            found[f"random, {trials + cost} trials"] = lambda score, trials=trials: play(
                RandomStrategy(candidates, seed=args.seed, feasible=feasible), trials + cost, score
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--mean", default="0.5,0.5,0.5")
    parser.add_argument("--std", default="0.5,0.5,0.5")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=50, help="of the distillation")
    parser.add_argument("--every", type=int, default=1, help="measure each so-manieth single swap")
    parser.add_argument("--random", type=int, default=24, help="architectures at each budget")
    parser.add_argument("--budgets", default="60,40", help="percent of the MACs")
    parser.add_argument("--trials", default="0,30,60,90", help="of milp with estimates")
    parser.add_argument(
        "--measured", type=int, default=500, help="trials of milp without; 0 leaves it out"
    )
    parser.add_argument("--score-images", type=int, default=512)
    parser.add_argument("--score-batch", type=int, default=256)
    parser.add_argument("--size", type=int, help="pixels that images are scaled to")
    parser.add_argument("--norm-batches", type=int, default=2, help="of 64 images")
    parser.add_argument("--train", type=int, default=4096)
    parser.add_argument("--val", type=int, default=2048)
    parser.add_argument("--test", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.trials = [int(trials) for trials in args.trials.split(",")]
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    mean, std = (
        torch.tensor([float(x) for x in each.split(",")])[:, None, None]
        for each in (args.mean, args.std)
    )
    images = pictures(
        args.images,
        args.train + args.val + args.test,
        args.size,
        lambda x: (x.float() / 255 - mean) / std,
    )
    train = batched(images[: args.train], 64)
    val = batched(images[args.train : args.train + args.val], args.score_batch)
    test = batched(images[args.train + args.val :], args.score_batch)
    model, devices = ModelSpec(source=args.model).build().eval(), Devices.choose("cpu")
    example = images[0][0][None]
    space = refiner.search_space(model, example, granularity="group")
    net, kept, task = (
        Supernet(model, space, seed=args.seed),
        args.out / "supernet.pt",
        Classification(),
    )
    if not kept.exists():
        started = time.process_time()
        distill(
            net,
            train,
            task,
            devices=devices,
            config=DistillConfig(steps=args.steps),
            seed=args.seed,
        )
        print(f"distillation: {time.process_time() - started:.0f} s of CPU")
        torch.save(net.state_dict(), kept)
    net.load_state_dict(torch.load(kept, weights_only=True))
    norms, scored = train[: args.norm_batches], val[: args.score_images // args.score_batch]
    started = time.process_time()
    effects = estimate_effects(
        net, scored, norms, task, devices=devices, seed=args.seed, draws=DRAWS
    )
    swaps = [one_swap(len(space.slots), s, k) for s, k in sorted(effects.ranked())]
    print(
        f"{len(swaps)} swaps in {len(space.slots)} slots; estimates: {time.process_time() - started:.1f} s of CPU"
    )
    measured = Measured(
        net,
        model,
        norms,
        devices,
        args.out / f"scores_{args.score_images}_{args.norm_batches}.json",
    )

    def score(vector: Vector) -> float:
        return measured(vector, scored, "score")[0]

    print("\n| architectures | number | tau | log-correlation | estimated over measured | losses |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    print(ranks("single swaps", effects, swaps[:: args.every], score), flush=True)
    sets = {}
    for share in args.budgets.split(","):
        _, sets[share] = within_budgets(parse_budgets(f"macs={share}%"), model, space, example)
        drawn = RandomStrategy(space.candidates, feasible=sets[share], seed=args.seed + 1).ask(
            args.random
        )
        print(ranks(f"random at {share} % of the MACs", effects, drawn, score), flush=True)
    print(f"\none measured score: {np.median(measured.seconds):.2f} s of CPU; of the original: "
          f"{score((0,) * len(space.slots)):.4f}\n")  # fmt: skip
    print("| MACs | strategy | agreement, validation | agreement, test | accuracy, test % |")
    print("| --- | --- | ---: | ---: | ---: |")
    zero = measured((0,) * len(space.slots), test, "test")
    print(f"| 100 % | original | | {zero[0]:.4f} | {100 * zero[1]:.2f} |")
    for share, feasible in sets.items():
        for name, run in players(space.candidates, feasible, effects, args).items():
            recommended = run(score).recommend(TOP_K)
            by = {vector: measured(vector, val, "val")[0] for vector in recommended}
            best = max(by, key=lambda vector: by[vector])
            agreement, accuracy = measured(best, test, "test")
            print(
                f"| {share} % | {name} | {by[best]:.4f} | {agreement:.4f} | {100 * accuracy:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
