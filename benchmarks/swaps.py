"""Whether single swaps in a distilled supernet add up, and what each strategy finds where they do.

    refine train refiner.recipes.resnet20:build_model --model-arg "channels=(16,32,64)" --data folder:DIR \\
        --limit 12000 --epochs 10 --schedule cosine --out trained
    python benchmarks/swaps.py --data folder:DIR --weights trained/refined.safetensors --out swaps.json

The agreement to the original of each single swap is measured, and of random architectures at 60 % of the MACs, which the
sum of their swaps is held against. Then the strategies play on that sum, which costs nothing, with noise of 5 %:
120 scores each, 5 at a time, the best of 5 recommended. What is measured is kept in OUT and read from there again.
"""

import itertools
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distilled import arguments, part, trained_resnet20
from rank_correlation import tau

import refiner
from refiner.core.randomness import seeded
from refiner.cost.budget import parse_budgets, within_budgets
from refiner.cost.feasible import FeasibleSet
from refiner.distill.distillation import DistillConfig, distill
from refiner.search.policy_gradient import ControllerConfig
from refiner.search.random_search import RandomStrategy
from refiner.search.strategies import make_strategy
from refiner.search.strategy import Strategy
from refiner.space.search_space import SearchSpace
from refiner.space.supernet import Supernet
from refiner.training.agreement import Agreement
from refiner.training.devices import Devices
from refiner.training.evaluation import evaluate, recalibrate
from refiner.training.task import Classification

UPDATES, SAMPLES, TOP_K, NOISE = 24, 5, 5, 0.05


def measured(
    data: Any, model: torch.nn.Module, space: SearchSpace, feasible: FeasibleSet
) -> dict[str, Any]:
    """Return the agreement of single swaps, and of random architectures with their accuracy."""
    task, devices = Classification(), Devices.choose("cpu")
    order = torch.randperm(len(data.val.images), generator=torch.Generator().manual_seed(0))
    held = list(part(data.val, order[:1000]))
    supernet = Supernet(model, space)
    distill(supernet, data.train, task, devices=devices, config=DistillConfig(steps=100))
    agreement = Agreement(task, model.eval())
    with seeded(0):
        batches = list(itertools.islice(data.train, 8))

    def both(vector: tuple[int, ...]) -> tuple[float, float]:
        supernet.select(vector)
        recalibrate(supernet.model, batches, task, devices)
        return tuple(evaluate(supernet.model, held, by, devices) for by in (agreement, task))

    zero = (0,) * len(space.slots)
    swaps = [
        (s, k, both((*zero[:s], k, *zero[s + 1 :]))[0])
        for s, names in enumerate(space.candidates)
        for k in range(1, len(names))
    ]
    drawn = RandomStrategy(space.candidates, feasible=feasible).ask(20)
    return {"zero": both(zero), "swaps": swaps, "random": [(v, *both(v)) for v in drawn]}


def played(
    strategy: Strategy, value: Callable[[tuple[int, ...]], float], noise: np.random.Generator
) -> float:
    """Return the value of the best of what a strategy recommends in the end."""
    for _ in range(UPDATES):
        vectors = strategy.ask(SAMPLES)
        strategy.tell(vectors, [value(v) * (1 + NOISE * noise.standard_normal()) for v in vectors])
    return max(map(value, strategy.recommend(TOP_K)))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=8000)
    parser.add_argument("--seeds", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = trained_resnet20(args)
    example = torch.zeros(1, 3, 32, 32)
    space = refiner.search_space(model, example, granularity=args.slots)
    _, feasible = within_budgets(parse_budgets("macs=60%"), model, space, example)
    if not args.out.exists():
        data = refiner.load_data(args.data, batch_size=64, limit=args.limit)
        args.out.write_text(json.dumps(measured(data, model, space, feasible)))
    found = json.loads(args.out.read_text())
    effect = {(s, k): value for s, k, value in found["swaps"]}

    def value(vector: tuple[int, ...]) -> float:
        return sum(effect.get((s, k), 0.0) for s, k in enumerate(vector))

    sums = [value(v) for v, _, _ in found["random"]]
    agreement, accuracy = ([row[i] for row in found["random"]] for i in (1, 2))
    print(f"zero vector, norms recalibrated: agreement {found['zero'][0]:.4f}")
    ratios = [own / added for own, added in zip(agreement, sums, strict=True)]
    print(f"random architectures, agreement over the sum of their swaps: median {statistics.median(ratios):.2f}, "
          f"{min(ratios):.2f} to {max(ratios):.2f}; tau {tau(sums, agreement):+.2f}, "
          f"with accuracy {tau(sums, accuracy):+.2f}\n")  # fmt: skip

    print("| strategy | best of its recommendations, mean | of each seed |\n| --- | ---: | --- |")
    kinds = [("random", None), ("milp", None)]
    kinds += [("controller", ControllerConfig(entropy_weight=w)) for w in (0.2, 0.1, 0.05, 0.0)]
    for name, config in kinds:
        values = [
            played(
                make_strategy(name, space.candidates, seed, feasible, controller=config),
                value, np.random.default_rng(seed),
            )
            for seed in range(args.seeds)
        ]  # fmt: skip
        label = name if config is None else f"{name}, entropy weight {config.entropy_weight}"
        listed = ", ".join(f"{v:.3f}" for v in values)
        print(f"| {label} | {statistics.mean(values):.3f} | {listed} |", flush=True)


if __name__ == "__main__":
    main()
