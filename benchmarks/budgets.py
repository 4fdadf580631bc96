"""Are budgets kept, and used? Random ones on four models, against the rewritten model as measured.

    python benchmarks/budgets.py [--budgets 50] [--slots group]

For each model, budgets are drawn of MACs, parameters, latency and of several in turn. They lie between
the least that its space reaches and what the original costs. Each strategy gets random scores a few times
and then recommends an architecture, which is rewritten and measured. Some budgets leave no architecture:
those of several resources at once, or of milliseconds for which only slower candidates are left. These
have to be refused, and others are drawn. Predicted milliseconds keep to the budget. How long the rewritten
model takes, over its limit, stands beside them (median, largest).

--slots names one granularity for all models.
"""

import argparse
import random
import statistics
import time

import timm
import torch

import refiner
from refiner.core.errors import ConfigError
from refiner.cost.budget import parse_budgets, within_budgets
from refiner.cost.costs import measure_cost, slot_costs
from refiner.cost.deployment import Deployment
from refiner.cost.slot_latencies import latency_table
from refiner.graph.slots import GRANULARITIES
from refiner.search.strategies import make_strategy

MODELS = (
    ("resnet18", "conv", 64),
    ("resnet50", "all", 64),
    ("mobilenetv2_100", "all", 64),
    ("densenet121", "conv", 64),
)
"""Names, slots, and height and width of the input: costs are summed in the same way at any size."""
KINDS = (
    ("macs",), ("params",), ("latency",),
    ("macs", "params"), ("macs", "latency"), ("macs", "params", "latency"),
)  # fmt: skip
"""What is limited, in turn."""
STRATEGIES = ("controller", "random", "milp")


def budgets_of(
    model_name: str, slots: str, size: int, count: int, generator: random.Random
) -> None:
    model, x = timm.create_model(model_name).eval(), torch.randn(1, 3, size, size)
    space = refiner.search_space(model, x, granularity=slots)
    before, costs = measure_cost(model, x), slot_costs(space)
    start = time.perf_counter()
    where = Deployment.choose(x, device=torch.device("cpu"))
    table = latency_table(space, model, where)
    whole = {"macs": before.macs, "params": before.params, "latency": table.model.median}
    rows = {name: [[getattr(c, name) for c in row] for row in costs] for name in ("macs", "params")}
    rows["latency"] = [[each.median for each in row] for row in table.rows(space)]
    reach = {name: whole[name] - sum(row[0] - min(row) for row in rows[name]) for name in rows}
    used: dict[tuple[str, ...], list[float]] = {kinds: [] for kinds in KINDS}
    measured, over, refused = [], 0, 0
    for i in range(count):
        kinds = KINDS[i % len(KINDS)]
        while True:
            drawn = {k: generator.uniform(reach[k], whole[k]) for k in kinds}
            texts = [f"{k}={amount:.6f}{'ms' * (k == 'latency')}" for k, amount in drawn.items()]
            try:
                within, feasible = within_budgets(parse_budgets(texts), model, space, x, table)
                break
            except ConfigError:
                refused += 1
        strategy = make_strategy(STRATEGIES[i % len(STRATEGIES)], within.candidates, i, feasible)
        for _ in range(3):
            vectors = strategy.ask(5)
            strategy.tell(vectors, [generator.random() for _ in vectors])
        architecture = within.architecture(strategy.recommend(1)[0])
        network = refiner.rewrite(model, architecture)
        cost = measure_cost(network, x)
        after = {
            "macs": cost.macs,
            "params": cost.params,
            "latency": table.predicted(architecture).median,
        }
        over += any(after[k] > amount + 1e-6 for k, amount in drawn.items())
        used[kinds].append(max(after[k] / amount for k, amount in drawn.items()))
        if "latency" in kinds:
            measured.append(where.latencies([network])[0].median / drawn["latency"])
    shares = [f"{statistics.median(used[kinds]):.3f}" for kinds in KINDS]
    print(
        f"| {model_name} | {len(space.slots)} | {count} | {over} | {' | '.join(shares)} | {refused} | "
        f"{statistics.median(measured):.2f}, {max(measured):.2f} | "
        f"{(time.perf_counter() - start) / count:.2f} s |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budgets", type=int, default=50)
    parser.add_argument("--slots", choices=GRANULARITIES)
    arguments = parser.parse_args()
    generator = random.Random(0)
    print(
        "| model | slots | budgets | gone over | "
        + " | ".join(f"used, {' and '.join(kinds)}" for kinds in KINDS)
        + " | refused | measured ms over the limit | time each |\n|"
        + " --- |" * (7 + len(KINDS))
    )
    for name, slots, size in MODELS:
        budgets_of(name, arguments.slots or slots, size, arguments.budgets, generator)


if __name__ == "__main__":
    main()
