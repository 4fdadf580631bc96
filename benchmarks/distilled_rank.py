"""How well a distilled supernet, which nothing tuned, ranks what a short tuning makes of its architectures.

    refine train refiner.recipes.resnet20:build_model --model-arg "channels=(16,32,64)" --data folder:DIR \\
        --limit 12000 --epochs 10 --schedule cosine --out trained
    python benchmarks/distilled_rank.py --data folder:DIR --weights trained/refined.safetensors --out results

Random architectures that use one and the same budget of MACs up, so that MACs tell nothing, are tuned from the
distilled candidates with the original as teacher, and tested. Kendall's tau (b) between that and their scores
before: in the distilled supernet, and in the paper's, whose shared weights are trained from scratch on uniformly
drawn paths of the same space (a warm-up, section 3.3). Both score on the same validation images, norms
recalibrated; the test is on others. Intervals are bootstraps over the architectures, 95 %. Each tuned
architecture is a line of OUT/results.jsonl, and the same command goes on after the last one.
"""

import ast
import itertools
import json
import statistics
from pathlib import Path

import numpy as np
import torch
from distilled import arguments, part, trained_resnet20
from rank_correlation import RESAMPLES, interval, tau
from refiner.recipes import resnet20

import refiner
from refiner.core.randomness import seeded
from refiner.cost.budget import parse_budgets, within_budgets
from refiner.distill.distillation import DistillConfig, distill
from refiner.search.random_search import RandomStrategy
from refiner.search.search import Search, SearchConfig
from refiner.space.supernet import Supernet
from refiner.training.agreement import Agreement
from refiner.training.devices import Devices
from refiner.training.evaluation import evaluate, recalibrate
from refiner.training.loop import TrainConfig, train
from refiner.training.task import Classification, Task
from refiner.training.teacher import WithTeacher


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=6000, help="images to train on")
    parser.add_argument("--budget", default="macs=60%")
    parser.add_argument("--architectures", type=int, default=24)
    parser.add_argument("--tune-epochs", type=int, default=2)
    parser.add_argument("--scratch-epochs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100, help="of the distillation")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    task, devices = Classification(), Devices.choose("cpu", args.precision)
    data = refiner.load_data(args.data, batch_size=64, limit=args.limit)
    chosen = torch.arange(len(data.val.images)) % 4 == 0  # folders lie class by class
    scoring, testing = part(data.val, chosen), part(data.val, ~chosen)
    model = trained_resnet20(args)
    example = torch.zeros(1, 3, 32, 32)
    space = refiner.search_space(model, example, granularity=args.slots)
    _, feasible = within_budgets(parse_budgets(args.budget), model, space, example)
    drawn = RandomStrategy(space.candidates, feasible=feasible, seed=args.seed)
    vectors = list(dict.fromkeys(drawn.ask(args.architectures)))

    scratch = Search(
        Supernet(resnet20.build_model(len(data.classes), channels=ast.literal_eval(args.channels)), space),
        RandomStrategy(space.candidates, feasible=feasible), task, data.train, scoring,
        devices=devices, seed=args.seed, feasible=feasible,
        config=SearchConfig(
            warmup_epochs=args.scratch_epochs, epochs=0, top_k=1, front=0,
            weights=TrainConfig(lr_max=0.1, schedule="cosine"),
        ),
    )  # fmt: skip
    supernet = Supernet(model, space, seed=args.seed)
    kept, below = args.out / "distilled.pt", args.out / "scratch.pt"
    if not kept.exists():
        distill(
            supernet, data.train, task,
            devices=devices, config=DistillConfig(steps=args.steps), seed=args.seed,
        )  # fmt: skip
        torch.save(supernet.state_dict(), kept)
    supernet.load_state_dict(torch.load(kept, weights_only=True))
    if not below.exists():
        scratch.run()
        torch.save(scratch.supernet.state_dict(), below)
    scratch.supernet.load_state_dict(torch.load(below, weights_only=True))

    with seeded(args.seed):
        batches = list(itertools.islice(data.train, 8))

    agreement = Agreement(task, model)

    def score(net: Supernet, vector: tuple[int, ...], by: Task) -> float:
        net.select(vector)
        recalibrate(net.model, batches, task, devices)
        return evaluate(net.model, scoring, by, devices)

    results = args.out / "results.jsonl"
    lines = (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )
    for vector in vectors[len(lines) :]:
        line = {
            "vector": vector,
            "macs": int(feasible.cost(vector)[0]),
            "distilled, agreement": score(supernet, vector, agreement),
            "distilled, accuracy": score(supernet, vector, task),
            "from scratch, accuracy": score(scratch.supernet, vector, task),
        }
        network = supernet.emit(vector)
        line["tuned"] = train(
            network, data.train, testing, WithTeacher(task, model, weight=0.5), devices=devices,
            config=TrainConfig(epochs=args.tune_epochs, lr_max=0.02, schedule="cosine"), seed=args.seed,
        ).score  # fmt: skip
        lines.append(line)
        with results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    tuned = np.array([line["tuned"] for line in lines])
    print(
        f"\n{len(lines)} architectures at {args.budget}, original {evaluate(model, testing, task, devices):.4f}"
    )
    print(
        f"tuned: {tuned.min():.4f} to {tuned.max():.4f}, standard deviation {statistics.stdev(tuned):.4f}\n"
    )
    print("| ranking | tau | 95 % | scores |\n| --- | ---: | --- | --- |")
    for name in ("distilled, agreement", "distilled, accuracy", "from scratch, accuracy", "macs"):
        scores = np.array([line[name] for line in lines])
        generator = np.random.default_rng(0)
        resampled = [
            tau(tuned[a], scores[a])
            for a in (generator.integers(len(tuned), size=len(tuned)) for _ in range(RESAMPLES))
        ]
        spread = f"{scores.min():.4f} to {scores.max():.4f}" if name != "macs" else ""
        print(f"| {name} | {tau(tuned, scores):+.2f} | {interval(resampled)} | {spread} |")


if __name__ == "__main__":
    main()
