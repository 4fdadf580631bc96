"""The wall time from a trained ResNet-20 to a refined, tuned one within a budget, split by phase.

    refine train refiner.recipes.resnet20:build_model --model-arg "channels=(16,32,64)" --data folder:DIR \\
        --limit 12000 --epochs 10 --schedule cosine --out trained
    python benchmarks/wall_time.py --data folder:DIR --weights trained/refined.safetensors

Run it with nothing beside it: it takes all cores. The settings of distillation and search are those that
`refiner.refine` has by default.
"""

import time
from collections import defaultdict

import torch
from distilled import arguments, trained_resnet20

import refiner
from refiner.distill.distillation import DistillConfig
from refiner.training.loop import TrainConfig


class Stopwatch:
    """A progress listener that adds up the seconds of each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.name, self.began = "", 0.0

    def begin(self, name: str, *_steps: int) -> None:
        self.name, self.began = name, time.perf_counter()

    def advance(self, steps: int, **_values: object) -> None:
        pass

    def note(self, text: str) -> None:
        print(text)

    def end(self) -> None:
        self.seconds[self.name] += time.perf_counter() - self.began


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--limit", type=int, default=12000)
    parser.add_argument("--budget", default="macs=60%")
    parser.add_argument("--strategy", default="milp")
    parser.add_argument("--train-epochs", type=int, default=3)
    parser.add_argument("--no-baselines", action="store_true")
    args = parser.parse_args()
    data = refiner.load_data(args.data, batch_size=64, limit=args.limit)
    model = trained_resnet20(args)
    watch, start = Stopwatch(), time.perf_counter()
    result = refiner.refine(
        model, data.train, data.val, strategy=args.strategy, budget=args.budget,
        distill=DistillConfig(), baselines=not args.no_baselines, progress=watch,
        train=TrainConfig(
            epochs=args.train_epochs, lr_max=0.01, schedule="cosine", teacher_weight=0.5
        ),
    )  # fmt: skip
    whole = time.perf_counter() - start
    print(
        f"{torch.get_num_threads()} threads, {args.limit} images\n\n| phase | seconds |\n| --- | ---: |"
    )
    for name, seconds in watch.seconds.items():
        print(f"| {name} | {seconds:.0f} |")
    print(
        f"| the rest: tracing, measuring, exporting | {whole - sum(watch.seconds.values()):.0f} |"
    )
    print(f"| all | {whole:.0f} |\n")
    print(result.report.to_markdown())


if __name__ == "__main__":
    main()
