"""Are budgets kept, and used? Random ones on four models, against the rewritten model as measured.

    python benchmarks/budgets.py [--budgets 50] [--latency]

Of each model so many budgets are drawn, a third of MACs, a third of parameters and a third of both, between the
least that its space reaches and what the original costs. Each strategy is told random scores a few times
and then recommends; what it recommends is rewritten and measured. A budget that no architecture keeps to (of
both resources at once) has to be refused, and is drawn again. With --latency, 30 random architectures of
resnet18 and of resnet50 are timed and held against the prediction from the table of candidates.
"""

import argparse
import random
import statistics
import time

import timm
import torch

import refiner
from refiner.budget import parse_budgets, within_budgets
from refiner.cost import measure_cost, slot_costs
from refiner.devices import Devices
from refiner.errors import ConfigError
from refiner.latency import latency_table, measure_latency
from refiner.strategies import make_strategy

MODELS = (
    ("resnet18", "conv", 64),
    ("resnet50", "all", 64),
    ("mobilenetv2_100", "all", 64),
    ("densenet121", "conv", 64),
)
"""Names, slots, and height and width of the input: costs are summed alike at any size."""
STRATEGIES = ("controller", "random", "milp", "nsga2", "tpe")


def budgets_of(
    model_name: str, slots: str, size: int, count: int, generator: random.Random
) -> None:
    model, x = timm.create_model(model_name).eval(), torch.zeros(1, 3, size, size)
    space = refiner.search_space(model, x, granularity=slots)
    before, costs = measure_cost(model, x), slot_costs(space)
    least = {
        name: getattr(before, name)
        - sum(getattr(row[0], name) - min(getattr(c, name) for c in row) for row in costs)
        for name in ("macs", "params")
    }
    used, over, refused = [], 0, 0
    start = time.perf_counter()
    for i in range(count):
        kinds = (("macs",), ("params",), ("macs", "params"))[i % 3]
        while True:
            drawn = {k: generator.randint(least[k], getattr(before, k)) for k in kinds}
            budgets = parse_budgets([f"{k}={amount}" for k, amount in drawn.items()])
            try:
                within, feasible = within_budgets(budgets, model, space, x)
                break
            except ConfigError:
                refused += 1
        strategy = make_strategy(STRATEGIES[i % len(STRATEGIES)], within.candidates, i, feasible)
        for _ in range(3):
            vectors = strategy.ask(5)
            strategy.tell(vectors, [generator.random() for _ in vectors])
        vector = strategy.recommend(1)[0]
        after = measure_cost(refiner.rewrite(model, within.architecture(vector)), x)
        over += any(getattr(after, k) > amount for k, amount in drawn.items())
        used.append(max(getattr(after, k) / amount for k, amount in drawn.items()))
    macs_alone = [share for i, share in enumerate(used) if i % 3 == 0]
    print(
        f"| {model_name} | {len(space.slots)} | {count} | {over} | {statistics.median(macs_alone):.3f} | "
        f"{min(macs_alone):.3f} | {statistics.median(used):.3f} | {refused} | "
        f"{(time.perf_counter() - start) / count:.2f} s |",
        flush=True,
    )


def latencies_of(model_name: str, count: int, generator: random.Random) -> None:
    model, x = timm.create_model(model_name).eval(), torch.randn(1, 3, 224, 224)
    space = refiner.search_space(model, x)
    table = latency_table(space, model, x, devices=Devices.choose("cpu"))
    whole = table.model.median
    errors, pairs = [], []
    for _ in range(count):
        vector = [generator.randrange(len(names)) for names in space.candidates]
        architecture = space.architecture(vector)
        predicted = table.predicted(architecture).median
        network = refiner.rewrite(model, architecture).eval()
        measured, cost = measure_latency(network, x), measure_cost(network, x)
        errors.append(abs(predicted - measured) / measured)
        pairs.append((cost.macs, measured))
    macs = measure_cost(model, x).macs
    saved = statistics.median(1 - cost / macs for cost, _ in pairs)
    faster = statistics.median(whole / measured for _, measured in pairs)
    print(
        f"| {model_name} | {whole:.1f} ms | {100 * statistics.median(errors):.1f} % | "
        f"{100 * max(errors):.1f} % | {100 * saved:.1f} % | {faster:.2f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budgets", type=int, default=50)
    parser.add_argument("--latency", action="store_true")
    arguments = parser.parse_args()
    generator = random.Random(0)
    if arguments.latency:
        print(
            "| model | original | median error | largest | MACs saved, median | speed-up, median |"
        )
        print("| --- | --- | --- | --- | --- | --- |")
        for name in ("resnet18", "resnet50"):
            latencies_of(name, 30, generator)
        return
    print(
        "| model | slots | budgets | gone over | used of MACs, median | least | used of any, median | "
        "refused | time each |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for name, slots, size in MODELS:
        budgets_of(name, slots, size, arguments.budgets, generator)


if __name__ == "__main__":
    main()
