"""Milliseconds in a runtime: how well they are predicted, by the table of candidates.

    python benchmarks/latency.py predict [--models resnet18] [--runtimes onnxruntime] [--threads 1 2] [--batches 1 8]

predict  30 random architectures of each model are timed in turn with the original. Their share of its time is
         compared with the prediction from the table of candidates, before and after whole networks have
         corrected it.

Models are those of timm at 224 x 224, and the ResNets for CIFAR-10, with random weights: they do not matter here.
One line of JSON is printed for each step, and kept in --out, from which the same command goes on.
"""

import argparse
import json
import random
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from peers.networks import drawn_resnet
from torch import nn

import refiner
from refiner.core.inputs import ExampleInput
from refiner.cost.deployment import Deployment
from refiner.cost.latency_table import LatencyTable
from refiner.cost.slot_latencies import latency_table
from refiner.cost.whole_latencies import WHOLE_PATIENCE, random_vectors
from refiner.runtimes.timing import ratio, timed
from refiner.space.search_space import SearchSpace

MODELS = ("resnet20", "resnet18", "resnet50", "mobilenetv2_100")
CPU = torch.device("cpu")


def model_of(name: str) -> tuple[nn.Module, ExampleInput]:
    torch.manual_seed(0)
    if name in ("resnet20", "resnet56"):
        return drawn_resnet(int(name[6:]), (16, 32, 64), 0), torch.randn(1, 3, 32, 32)
    return timm.create_model(name).eval(), torch.randn(1, 3, 224, 224)


def deployment_of(example: ExampleInput, runtime: str, threads: int, batch: int) -> Deployment:
    return Deployment.choose(example, runtime=runtime, device=CPU, threads=threads, batch=batch)


def shares_of(
    model: nn.Module, space: SearchSpace, vectors: list[tuple[int, ...]], where: Deployment
) -> list[float]:
    """Return the share of the original's time that each architecture takes, timed in turn with it."""
    shares, whole = [], where.runtime.prepare(model, where.batch)
    for start in range(0, len(vectors), 5):
        networks = [
            refiner.rewrite(model, space.architecture(v)) for v in vectors[start : start + 5]
        ]
        passes = [whole, *(where.runtime.prepare(each, where.batch) for each in networks)]
        original, *times = timed(passes, where.runtime, WHOLE_PATIENCE)
        shares += [ratio(each, original) for each in times]
    return shares


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("action", choices=("predict",))
    add("--models", nargs="+", default=list(MODELS))
    add("--runtimes", nargs="+", default=["onnxruntime"])
    add("--threads", type=int, nargs="+", default=[1, 2])
    add("--batches", type=int, nargs="+", default=[1, 8])
    add("--out", type=Path, default=Path("latency.jsonl"))
    args = parser.parse_args()
    done = (
        [json.loads(line) for line in args.out.read_text().splitlines()]
        if args.out.exists()
        else []
    )
    for name in args.models:
        for runtime in args.runtimes:
            for threads in args.threads:
                for batch in args.batches:
                    key = {"model": name, "runtime": runtime, "threads": threads, "batch": batch}
                    if any(key.items() <= record.items() for record in done):
                        continue
                    record = key | predict(name, runtime, threads, batch)
                    with args.out.open("a") as file:
                        file.write(json.dumps(record) + "\n")
                    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
