"""Milliseconds in a runtime: how well they are predicted, by the table of candidates.

    python benchmarks/latency.py predict [--models resnet18] [--runtimes onnxruntime] [--threads 1 2] [--batches 1 8]
    python benchmarks/latency.py budgets [--models resnet18] [--count 8]
    python benchmarks/latency.py speedups [--models resnet18] [--count 8] [--made results/made/*.pt]

predict  30 random architectures of each model are timed in turn with the original. Their share of its time is
         compared with the prediction from the table of candidates, before and after whole networks have
         corrected it.
budgets  latency budgets of 40 to 90 %, drawn at random for each model, with the first of --threads and --batches. As
         in a run, whole networks around the budget correct the table, those that are recommended correct it again
         until three keep to the budget, and the best is measured once more.
         The strategy is random. What is emitted is timed in a new process, in turn with the original.

speedups for each model, random architectures of 60 % of the MACs are timed in turn with the original. With --made,
         networks of that model that peers.py made are timed instead.

Models are those of timm at 224 x 224, the ResNets for CIFAR-10, and EfficientNet-Lite0 (`lite0`). All but
the last have random weights: they do not matter here.
One line of JSON is printed for each step, and kept in --out, from which the same command goes on.
"""

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from peers.networks import drawn_resnet, trained_lite0
from torch import nn

import refiner
from refiner.core.errors import ConfigError
from refiner.core.inputs import ExampleInput
from refiner.cost.budget import parse_budgets, within_budgets
from refiner.cost.deployment import Deployment
from refiner.cost.latency_table import LatencyTable
from refiner.cost.slot_latencies import latency_table
from refiner.cost.whole_latencies import WHOLE_PATIENCE, random_vectors
from refiner.runs.latency_check import within_latency
from refiner.runs.latency_limit import LatencyLimit
from refiner.runs.timed_table import around_budgets
from refiner.runtimes.timing import ratio, timed_networks
from refiner.search.measured_limit import nearest, recommended_within
from refiner.search.random_search import RandomStrategy
from refiner.search.scoring import Scored
from refiner.search.search import SearchResult
from refiner.space.architecture import Vector
from refiner.space.candidates import ORIGINAL
from refiner.space.search_space import SearchSpace
from refiner.training.devices import Devices

MODELS = ("resnet20", "resnet18", "resnet50", "mobilenetv2_100")
CPU = torch.device("cpu")


def model_of(name: str) -> tuple[nn.Module, ExampleInput]:
    torch.manual_seed(0)
    if name in ("resnet20", "resnet56"):
        return drawn_resnet(int(name[6:]), (16, 32, 64), 0), torch.randn(1, 3, 32, 32)
    if name == "lite0":
        return trained_lite0(), torch.randn(1, 3, 224, 224)
    return timm.create_model(name).eval(), torch.randn(1, 3, 224, 224)


def deployment_of(example: ExampleInput, runtime: str, threads: int, batch: int) -> Deployment:
    return Deployment.choose(example, runtime=runtime, device=CPU, threads=threads, batch=batch)


def shares_of(
    model: nn.Module, space: SearchSpace, vectors: list[tuple[int, ...]], where: Deployment
) -> list[float]:
    """Return the share of the original's time that each architecture takes, timed in turn with it."""
    return [
        share
        for start in range(0, len(vectors), 2)
        for share in in_turn(
            model,
            [refiner.rewrite(model, space.architecture(v)) for v in vectors[start : start + 2]],
            where,
        )
    ]


def in_turn(model: nn.Module, networks: Sequence[nn.Module], where: Deployment) -> list[float]:
    original, *times = timed_networks(
        [model, *networks], where.batch, where.runtime, WHOLE_PATIENCE
    )
    return [ratio(each, original) for each in times]


def errors_of(
    table: LatencyTable, space: SearchSpace, vectors: list[tuple[int, ...]], shares: list[float]
) -> dict[str, float]:
    errors = [
        abs(table.predicted(space.architecture(vector)).median / table.model.median / share - 1)
        for vector, share in zip(vectors, shares, strict=True)
    ]
    return {"median": 100 * statistics.median(errors), "worst": 100 * max(errors)}


def predict(name: str, runtime: str, threads: int, batch: int) -> dict[str, Any]:
    model, example = model_of(name)
    space = refiner.search_space(model, example, granularity="group")
    where = deployment_of(example, runtime, threads, batch)
    began = time.perf_counter()
    table = latency_table(space, model, where)
    seconds = time.perf_counter() - began
    drawn = random_vectors(space, 38)[8:]  # the first are like those that the table has seen
    random.Random(1).shuffle(drawn)
    shares = shares_of(model, space, drawn, where)
    return {
        "ms": table.model.median,
        "slots": len(space.slots),
        "kinds": len(set(table.kinds.values())),
        "candidates": sum(map(len, space.candidates)),
        "seconds": seconds,
        "least": min(shares),
        "sum": errors_of(replace(table, scales={}), space, drawn, shares),
        "corrected": errors_of(table, space, drawn, shares),
        "scales": sorted({round(scale, 2) for scale in table.scales.values()}),
    }


def budgets(
    name: str, runtime: str, threads: int, batch: int, count: int
) -> Iterator[dict[str, Any]]:
    model, example = model_of(name)
    space = refiner.search_space(model, example, granularity="group")
    where = deployment_of(example, runtime, threads, batch)
    table = latency_table(space, model, where)
    generator = random.Random(0)
    while count:
        share = generator.uniform(0.4, 0.9)
        (budget,) = parse_budgets(f"latency={share:.4f}")
        began = time.perf_counter()
        near = around_budgets(table, space, [budget], model, example, where)
        try:
            within, feasible = within_budgets([budget], model, space, example, near)
        except ConfigError:
            yield {"budget": share, "refused": True}
            continue
        count -= 1
        strategy = RandomStrategy(within.candidates, seed=count, feasible=feasible)
        devices = Devices.choose("cpu")
        limit = LatencyLimit(budget, 0, near, within, feasible, model, where, devices)
        vectors = recommended_within(limit, strategy, strategy.recommend, 3) or nearest(limit, 3)
        top_k = tuple(Scored(vector=v, score=-i) for i, v in enumerate(vectors))

        def emit(vector: Vector, within: SearchSpace = within) -> nn.Module:
            return refiner.rewrite(model, within.architecture(vector))

        checked = within_latency(
            SearchResult(best=top_k[0], top_k=top_k), budget, model, emit, where,
            devices=devices, folder=None,
        )  # fmt: skip
        operations = within.architecture(checked.found.best.vector).operations
        predicted = limit.table.predicted(within.architecture(checked.found.best.vector)).median
        used = in_new_process(name, runtime, threads, batch, operations_of(within, operations))
        yield {
            "budget": share,
            "predicted": predicted / near.model.median / share,
            "used": used / share,
            "measured": len(limit.used),
            "none_within": any("no architecture" in note for note in checked.notes),
            "seconds": time.perf_counter() - began,
        }


def speedups(
    name: str, runtime: str, threads: int, batch: int, count: int, made: Sequence[Path]
) -> dict[str, Any]:
    model, example = model_of(name)
    where = deployment_of(example, runtime, threads, batch)
    if made:
        networks = [torch.load(file, weights_only=False).eval() for file in made]
        shares = {file.stem: in_turn(model, [n], where)[0] for file, n in zip(made, networks)}
        return {"speedups": {stem: 1 / share for stem, share in shares.items()}}
    space = refiner.search_space(model, example, granularity="group")
    within, feasible = within_budgets(parse_budgets("macs=60%"), model, space, example)
    drawn = RandomStrategy(within.candidates, seed=0, feasible=feasible).ask(count)
    found = [1 / share for share in shares_of(model, within, drawn, where)]
    return {"least": min(found), "median": statistics.median(found), "most": max(found)}


def operations_of(space: SearchSpace, operations: Sequence[str]) -> dict[str, str]:
    return {slot.name: name for slot, name in zip(space.slots, operations, strict=True)}


def in_new_process(
    name: str, runtime: str, threads: int, batch: int, operations: dict[str, str]
) -> float:
    """Return the share of the original's time that an architecture takes, from a process of its own."""
    command = [sys.executable, __file__, "measure", "--models", name, "--runtimes", runtime]
    command += ["--threads", str(threads), "--batches", str(batch)]
    command += ["--operations", json.dumps(operations)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def measure(name: str, runtime: str, threads: int, batch: int, operations: dict[str, str]) -> float:
    model, example = model_of(name)
    space = refiner.search_space(model, example, granularity="group")
    vector = tuple(
        names.index(operations.get(slot.name, ORIGINAL))
        for slot, names in zip(space.slots, space.candidates, strict=True)
    )
    where = deployment_of(example, runtime, threads, batch)
    return shares_of(model, space, [vector], where)[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("action", choices=("predict", "budgets", "speedups", "measure"))
    add("--models", nargs="+", default=list(MODELS))
    add("--runtimes", nargs="+", default=["onnxruntime"])
    add("--threads", type=int, nargs="+", default=[1, 2])
    add("--batches", type=int, nargs="+", default=[1, 8])
    add("--count", type=int, default=8, help="budgets or random architectures of each model")
    add("--made", type=Path, nargs="+", default=[], help="networks that peers.py kept")
    add("--operations", type=json.loads, help="of the network that `measure` times, by slot")
    add("--out", type=Path, default=Path("latency.jsonl"))
    args = parser.parse_args()
    if args.action == "measure":
        print(
            measure(
                args.models[0], args.runtimes[0], args.threads[0], args.batches[0], args.operations
            )
        )
        return
    done = (
        [json.loads(line) for line in args.out.read_text().splitlines()]
        if args.out.exists()
        else []
    )
    for name, runtime in itertools.product(args.models, args.runtimes):
        if args.action == "budgets":
            for found in budgets(name, runtime, args.threads[0], args.batches[0], args.count):
                record = {"model": name, "runtime": runtime, "threads": args.threads[0]} | found
                keep(args.out, record | {"batch": args.batches[0]})
            continue
        if args.action == "speedups":
            threads, batch = args.threads[0], args.batches[0]
            found = speedups(name, runtime, threads, batch, args.count, args.made)
            key = {"model": name, "runtime": runtime, "threads": threads, "batch": batch}
            keep(args.out, key | {"macs": "60%"} | found)
            continue
        for threads, batch in itertools.product(args.threads, args.batches):
            key = {"model": name, "runtime": runtime, "threads": threads, "batch": batch}
            if not any(key.items() <= record.items() for record in done):
                keep(args.out, key | predict(name, runtime, threads, batch))


def keep(out: Path, record: dict[str, Any]) -> None:
    with out.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
