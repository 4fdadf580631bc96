"""What a trained ResNet-20 keeps without any training: its distilled supernet at several budgets.

    refine train refiner.recipes.resnet20:build_model --model-arg "channels=(16,32,64)" --data folder:DIR \\
        --limit 12000 --epochs 10 --schedule cosine --out trained
    python benchmarks/distilled.py --data folder:DIR --weights trained/refined.safetensors

All candidates are distilled in one pass; then, at 90, 80 and 60 % of the MACs, random feasible architectures and
the integer program's choice are scored on the whole validation part, their norms recalibrated, nothing tuned.
The program sees the scores of single swaps, on a fifth of the validation part that scores nothing else.
"""

import argparse
import ast
import itertools
import statistics
import time

import torch
from refiner.recipes import resnet20

import refiner
from refiner.core.randomness import seeded
from refiner.core.weights import load_weights
from refiner.cost.budget import parse_budgets, within_budgets
from refiner.data.tensor_loader import TensorLoader
from refiner.distill.distillation import DistillConfig, distill
from refiner.graph.slots import GRANULARITIES
from refiner.search.milp import MilpStrategy
from refiner.search.random_search import RandomStrategy
from refiner.space.supernet import Supernet
from refiner.training.devices import PRECISIONS, Devices
from refiner.training.evaluation import evaluate, recalibrate
from refiner.training.task import Classification
from refiner.training.usage import Usage


def part(loader: TensorLoader, chosen: torch.Tensor) -> TensorLoader:
    return TensorLoader(
        loader.images[chosen], loader.labels[chosen], batch_size=250, train=False,
        mean=loader.mean.flatten(), std=loader.std.flatten(),
    )  # fmt: skip


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser of what all scripts take that begin with a trained ResNet-20."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--channels", default="(16,32,64)")
    parser.add_argument("--slots", choices=GRANULARITIES, default="group")
    parser.add_argument("--precision", choices=PRECISIONS, default="no")
    return parser


def trained_resnet20(args: argparse.Namespace) -> torch.nn.Module:
    model = resnet20.build_model(10, channels=ast.literal_eval(args.channels))
    load_weights(model, args.weights)
    return model


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--limit", type=int, default=12000)
    parser.add_argument("--random", type=int, default=20, help="architectures at each budget")
    parser.add_argument("--steps", type=int, default=DistillConfig().steps)
    args = parser.parse_args()
    torch.set_num_threads(1)
    task, devices = Classification(), Devices.choose("cpu", args.precision)
    data = refiner.load_data(args.data, batch_size=64, limit=args.limit)
    chosen = torch.arange(len(data.val.images)) % 5 == 0  # folders lie class by class
    probing, scoring = part(data.val, chosen), part(data.val, ~chosen)
    model = trained_resnet20(args)
    example = torch.zeros(1, 3, 32, 32)
    space = refiner.search_space(model, example, granularity=args.slots)
    print(f"original: {evaluate(model, scoring, task, devices):.4f}")

    start, usage = time.perf_counter(), Usage()
    supernet = Supernet(model, space)
    errors = distill(
        supernet, data.train, task,
        devices=devices, config=DistillConfig(steps=args.steps), usage=usage,
    )  # fmt: skip
    operations = sorted({op for row in errors.values() for op in row})
    print(
        f"distilled {sum(map(len, errors.values()))} candidates in {time.perf_counter() - start:.0f} s, {usage}"
    )
    for operation in operations:
        found = [row[operation] for row in errors.values() if operation in row]
        print(
            f"  {operation}: error {statistics.mean(found):.3f} of the variance, {min(found):.3f} to {max(found):.3f}"
        )

    with seeded(0):
        batches = list(itertools.islice(data.train, 8))

    def score(vector: tuple[int, ...], loader: TensorLoader) -> float:
        supernet.select(vector)
        recalibrate(supernet.model, batches, task, devices)
        return evaluate(supernet.model, loader, task, devices)

    start = time.perf_counter()
    zero = (0,) * len(space.slots)
    swaps = [
        tuple(k if s == i else 0 for i in range(len(zero)))
        for s, names in enumerate(space.candidates)
        for k in range(1, len(names))
    ]
    scored = [(v, score(v, probing)) for v in (zero, *swaps)]
    print(f"scored {len(scored)} swaps in {time.perf_counter() - start:.0f} s")
    print("| MACs | random, mean | best | worst | milp |\n| --- | --- | --- | --- | --- |")
    for share in ("90%", "80%", "60%"):
        budgets = parse_budgets(f"macs={share}")
        _, feasible = within_budgets(budgets, model, space, example)
        drawn = RandomStrategy(space.candidates, feasible=feasible).ask(args.random)
        scores = [score(vector, scoring) for vector in drawn]
        strategy = MilpStrategy(space.candidates, feasible=feasible)
        strategy.tell(*zip(*scored, strict=True))
        best = strategy.recommend(1)[0]
        print(
            f"| {share} | {statistics.mean(scores):.4f} | {max(scores):.4f} | {min(scores):.4f} | "
            f"{score(best, scoring):.4f} ({','.join(map(str, best))}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
