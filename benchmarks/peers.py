"""This tool's strategies beside its peers, from one trained network to one of fewer MACs, at equal cost.

    python benchmarks/peers.py run   --data folder:DIR --out results
    python benchmarks/peers.py run   --data folder:DIR --out results --methods fastnas
    python benchmarks/peers.py table --out results
    python benchmarks/peers.py speed --out results    (with nothing beside it)

DIR holds train/CLASS/*.jpg and val/CLASS/*.jpg, CIFAR-10's. `torch_pruning` needs `pip install torch-pruning`;
`fastnas` an environment of its own, which holds this package, nvidia-modelopt, requests and torchprofile==0.0.4.
`--mode gpu` takes the whole of the images and full-size networks. Each finished step, under 8 minutes, is a line of
OUT/results.jsonl; the same command goes on after the last one, `--minutes` stops it in between, and `--shard 0/2`
takes every second seed. A share of MACs and three seeds take an hour of two cores. `--precision bf16` halves the time where the device has it; give it to all methods alike.

All networks are trained for equally many epochs in all, and in the same way: first alone, those of all methods but
`narrow` being the same, then, once made smaller, with the original as teacher. Methods score on the same held images (a part of
the training set that trains nothing), and are tested once on images that nothing else has seen. `untuned` is before the
tuning, norms recalibrated alike.

original        the network as it is, trained on for as many epochs as the others are tuned
controller, milp, random
                a search over the distilled candidates, as `refine --distill` does it, a slot a group: the same number
                of scored architectures for each, rewarded by agreement to the original
narrow          all channels in one proportion, trained from scratch: that training is its search's time
torch_pruning   Torch-Pruning: MetaPruner, group magnitude importance, over the whole network at once
fastnas         Model Optimizer's FastNAS, which scores on all held images
narrow_taught, milp_taught
                a training from scratch may as well have the teacher throughout. This takes the whole of the epochs
                again, at the high learning rate, after those that made the teacher; so these two are to be
                compared with each other
"""

import argparse
import itertools
import json
import statistics
import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

import refiner
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.cost.budget import parse_budgets, within_budgets
from refiner.cost.costs import measure_cost
from refiner.cost.latency import measure_latency
from refiner.data.loaders import mixed
from refiner.data.tensor_loader import TensorLoader
from refiner.distill.distillation import DistillConfig, distill
from refiner.search.search import Search, SearchConfig
from refiner.search.strategies import STEADY, make_strategy
from refiner.space.search_space import SearchSpace
from refiner.space.supernet import Supernet
from refiner.training.devices import PRECISIONS, Devices
from refiner.training.evaluation import evaluate, recalibrate
from refiner.training.loop import TrainConfig, train
from refiner.training.task import Classification
from refiner.training.teacher import WithTeacher
from refiner.training.usage import Usage

EXAMPLE = torch.zeros(1, 3, 32, 32)
HELD = 2000
"""Training images that score architectures and train nothing."""
SCORED = 500
"""Of these, images of one score; the whole of them for the top_k."""
STRATEGIES = ("controller", "milp", "random")


@dataclass(frozen=True)
class Mode:
    """The size of an experiment."""

    networks: dict[str, tuple[tuple[int, ...], int]]
    """By name: channels of each stage, and residual blocks of each."""
    images: int
    """To train on."""
    tested: int
    """Images to test on."""
    base_epochs: int
    tune_epochs: int
    search: SearchConfig
    distill: DistillConfig
    divisor: int
    """Of the channels that FastNAS chooses."""


def searched(epochs: int) -> SearchConfig:
    return SearchConfig(
        epochs=epochs, warmup_epochs=0, train_weights=False, trials=epochs * 4 * 5, samples=5,
        top_k=5, front=0, recalibration_batches=4,
    )  # fmt: skip


MODES = {
    "cpu": Mode(
        networks={"resnet20": ((16, 32, 64), 3)},
        images=8000, tested=20000, base_epochs=16, tune_epochs=5, search=searched(8),
        distill=DistillConfig(steps=100), divisor=4,
    ),
    "gpu": Mode(
        networks={"resnet20": ((16, 32, 64), 3), "resnet18": ((64, 128, 256, 512), 2)},
        images=48000, tested=10000, base_epochs=40, tune_epochs=20, search=searched(25),
        distill=DistillConfig(steps=400), divisor=8,
    ),
}  # fmt: skip
BASE_RATE, TUNE_RATE, TEACHER = 0.1, 0.02, 0.5


def build(channels: tuple[int, ...], units: int, seed: int) -> nn.Module:
    """Return a ResNet for 32x32 images with projections where the size changes (He et al., 2016, option B)."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, channels[0], 3, padding=1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()
    ]  # fmt: skip
    with seeded(seed):
        before = channels[0]
        for stage, width in enumerate(channels):
            for unit in range(units):
                stride = 2 if stage and not unit else 1
                projection = None
                if stride > 1 or before != width:
                    projection = nn.Sequential(
                        nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
                    )
                layers.append(BasicBlock(before, width, stride, projection))
                before = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10)]
        model = nn.Sequential(*layers)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    # Activations follow: a step of so narrow a network takes two thirds of the time on a CPU.
    return model.to(memory_format=torch.channels_last)


def part(loader: TensorLoader, chosen: torch.Tensor, *, train: bool, batch: int) -> TensorLoader:
    return TensorLoader(
        loader.images[chosen], loader.labels[chosen], batch_size=batch, train=train,
        mean=loader.mean.flatten(), std=loader.std.flatten(), pad=4 * train, flip=train,
    )  # fmt: skip


class Experiment:
    """One network and one seed: the trained original, its distilled supernet, and what the methods share."""

    def __init__(
        self, mode: Mode, name: str, seed: int, data: Any, args: argparse.Namespace
    ) -> None:
        self.mode, self.name, self.seed, self.out = mode, name, seed, args.out
        self.channels, self.units = mode.networks[name]
        self.devices = Devices.choose(args.device, args.precision)
        self.task = Classification()
        # One split for all seeds; a folder's images lie class by class.
        order = torch.randperm(len(data.train.images), generator=torch.Generator().manual_seed(0))
        held, rest = order[:HELD], order[HELD : HELD + mode.images]
        self.training = part(data.train, rest, train=True, batch=64).to(self.devices.device)
        self.held = part(data.train, held, train=False, batch=SCORED).to(self.devices.device)
        tested = torch.randperm(len(data.val.images), generator=torch.Generator().manual_seed(0))
        tested = tested[: mode.tested]
        self.test = part(data.val, tested, train=False, batch=500).to(self.devices.device)

    def stem(self, kind: str) -> Path:
        return self.out / f"{self.name.replace('/', '-')}-{self.seed}-{kind}"

    def fit(
        self, network: nn.Module, epochs: int, rate: float, teacher: nn.Module | None = None
    ) -> float:
        """Train a network and return its accuracy on the test images."""
        task: Any = self.task
        if teacher is not None:
            task = WithTeacher(task, teacher, weight=TEACHER)
        config = TrainConfig(epochs=epochs, lr_max=rate, schedule="cosine")
        return train(
            network, self.training, self.test, task,
            devices=self.devices, config=config, seed=self.seed,
        ).score  # fmt: skip

    def accuracy(self, network: nn.Module, loader: TensorLoader) -> float:
        return evaluate(network.to(self.devices.device), loader, self.task, self.devices)

    @cached_property
    def original(self) -> nn.Module:
        """The trained network that all begin with."""
        file = self.stem("base.pt")
        model = build(self.channels, self.units, self.seed)
        if not file.exists():
            self.fit(model, self.mode.base_epochs, BASE_RATE)
            torch.save(model.state_dict(), file)
        model.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
        return model.to(self.devices.device).eval()

    @cached_property
    def supernet(self) -> tuple[Supernet, Usage, float]:
        """The distilled supernet, what it has cost, and its seconds."""
        file = self.stem("distilled.pt")
        model = copied(self.original).cpu()
        supernet = Supernet(model, group_space(model), seed=self.seed)
        usage, start = Usage(), time.perf_counter()
        if not file.exists():
            distill(
                supernet, self.training, self.task,
                devices=self.devices, config=self.mode.distill, seed=self.seed, usage=usage,
            )  # fmt: skip
            spent = [usage.forward, usage.backward, time.perf_counter() - start]
            torch.save({"weights": supernet.state_dict(), "spent": spent}, file)
        state = torch.load(file, weights_only=True, map_location="cpu")
        supernet.load_state_dict(state["weights"])
        forward, backward, seconds = state["spent"]
        return supernet, Usage(forward, backward), seconds


def group_space(model: nn.Module) -> SearchSpace:
    """Return what `refine --distill` searches of a model."""
    return refiner.search_space(model, EXAMPLE, granularity="group")


Made = tuple[nn.Module, dict[str, Any]]


def searched_network(method: str, at: Experiment, share: int) -> Made:
    """Search the distilled candidates with one of this tool's strategies."""
    supernet, spent, seconds = at.supernet
    start = time.perf_counter()
    space, feasible = within_budgets(
        parse_budgets(f"macs={share}%"), at.original, supernet.space, EXAMPLE,
    )  # fmt: skip
    seed = zlib.crc32(f"{method} {share} {at.seed}".encode())
    search = Search(
        supernet, make_strategy(method, space.candidates, seed, feasible, controller=STEADY), at.task,
        at.training, at.held, mixed(at.held),
        devices=at.devices, config=at.mode.search, seed=at.seed, feasible=feasible, teacher=at.original,
    )  # fmt: skip
    best = search.run().best
    spent = Usage(spent.forward + search.usage.forward, spent.backward + search.usage.backward)
    told = {
        "vector": list(best.vector),
        "spent": str(spent),
        "search_s": seconds + time.perf_counter() - start,
    }
    return search.scorer.emit(best.vector), told


def narrow(at: Experiment, share: int, *, trained: bool = True) -> Made:
    """The same network with fewer channels, from scratch; its training before the tuning is done here."""
    limit = share / 100 * measure_cost(at.original, EXAMPLE.to(at.devices.device)).macs
    start = time.perf_counter()
    for eighths in range(
        8 * at.channels[0], 0, -1
    ):  # steps of an eighth of a channel in the first stage
        width = eighths / (8 * at.channels[0])
        network = build(tuple(max(1, round(width * c)) for c in at.channels), at.units, at.seed)
        if measure_cost(network, EXAMPLE).macs <= limit:
            break
    if trained:
        at.fit(network, at.mode.base_epochs, BASE_RATE)
    return network, {"search_s": time.perf_counter() - start}


def found_before(method: str, at: Experiment, share: int) -> Made:
    """Return what a search of this run found, untuned."""
    key = at.name, at.seed, method, share
    found = [r for r in read(at.out) if tuple(r[k] for k in KEY) == key]
    if not found:
        return searched_network(method, at, share)
    return at.supernet[0].emit(found[0]["vector"]), {"search_s": found[0]["search_s"]}


def torch_pruning(at: Experiment, share: int) -> Made:
    import torch_pruning as tp

    example = EXAMPLE.to(at.devices.device)
    network, start = copied(at.original), time.perf_counter()
    whole = measure_cost(network, example).macs
    pruner = tp.pruner.MetaPruner(
        network, example, importance=tp.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True, pruning_ratio=0.95, max_pruning_ratio=0.95, iterative_steps=400,
        ignored_layers=[m for m in network.modules() if isinstance(m, nn.Linear)],
    )  # fmt: skip
    while measure_cost(network, example).macs > share / 100 * whole:
        pruner.step()
    return network, {"search_s": time.perf_counter() - start}


def fastnas(at: Experiment, share: int) -> Made:
    import modelopt.torch.prune as mtp

    network, start, usage = copied(at.original), time.perf_counter(), Usage()
    network.to(memory_format=torch.contiguous_format)  # it refuses another
    divisor = at.mode.divisor
    with usage.counting(network), seeded(at.seed):
        pruned, _ = mtp.prune(
            model=network,
            mode=[("fastnas", {
                "nn.Conv2d": {"*": {"channel_divisor": divisor}},
                "nn.BatchNorm2d": {"*": {"feature_divisor": divisor}},
            })],
            constraints={"flops": f"{share}%"},
            dummy_input=EXAMPLE.to(at.devices.device),
            config={
                "data_loader": at.training, "collect_func": lambda batch: batch[0],
                "max_iter_data_loader": at.mode.search.recalibration_batches,
                "score_func": lambda model: evaluate(model, at.held, at.task, at.devices),
                "verbose": False,
            },
        )  # fmt: skip
    told = {"spent": str(usage), "search_s": time.perf_counter() - start}
    return pruned.to(memory_format=torch.channels_last), told


METHODS: dict[str, Callable[[Experiment, int], Made]] = {
    "original": lambda at, _: (copied(at.original), {"search_s": 0.0}),
    **{name: lambda at, share, n=name: searched_network(n, at, share) for name in STRATEGIES},
    "narrow": narrow,
    "torch_pruning": torch_pruning,
    "fastnas": fastnas,
    "narrow_taught": lambda at, share: narrow(at, share, trained=False),
    "milp_taught": lambda at, share: found_before("milp", at, share),
}
EXTRA = ("fastnas", "narrow_taught", "milp_taught")
"""Methods that run where they are asked for alone."""


def step(at: Experiment, method: str, share: int) -> dict[str, Any]:
    """Make a network by one method, tune it, and measure it."""
    network, told = METHODS[method](at, share)
    network.to(at.devices.device)
    start = time.perf_counter()
    if method != "original":
        with seeded(at.seed):
            batches = list(itertools.islice(at.training, at.mode.search.recalibration_batches))
        recalibrate(network, batches, at.task, at.devices)
    record = {"untuned": at.accuracy(network, at.test)}
    epochs, rate = at.mode.tune_epochs, TUNE_RATE
    if method.endswith("_taught"):
        epochs, rate = at.mode.base_epochs + at.mode.tune_epochs, BASE_RATE
    record["accuracy"] = at.fit(network, epochs, rate, at.original)
    record["tune_s"] = time.perf_counter() - start
    network.eval()
    cost = measure_cost(network, EXAMPLE.to(at.devices.device))
    record |= {"macs": cost.macs, "params": cost.params, **told}
    batch = EXAMPLE.repeat(16, 1, 1, 1)
    if at.devices.device.type == "cuda":
        record["gpu_ms"] = measure_latency(network, batch.to(at.devices.device))
    record["cpu_ms"] = measure_latency(network.cpu(), batch)
    return record


def read(out: Path) -> list[dict[str, Any]]:
    files = sorted(out.glob("results*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


KEY = ("network", "seed", "method", "share")


def run(args: argparse.Namespace) -> None:
    mode, began = MODES[args.mode], time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    data = refiner.load_data(args.data, batch_size=64)
    done = {tuple(record[key] for key in KEY) for record in read(args.out)}
    index, count = map(int, args.shard.split("/"))
    for network in mode.networks:
        for seed in range(args.seeds)[index::count]:
            at = Experiment(mode, network, seed, data, args)
            jobs = [
                (method, share)
                for share in args.shares
                for method in args.methods
                if method != "original"
            ]
            if "original" in args.methods:
                jobs.insert(0, ("original", 100))
            for method, share in jobs:
                if (network, seed, method, share) in done:
                    continue
                if (time.perf_counter() - began) / 60 > args.minutes:
                    return
                record = dict(zip(KEY, (network, seed, method, share), strict=True))
                record |= step(at, method, share)
                with (args.out / f"results{index}.jsonl").open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(json.dumps(record), flush=True)


def spread(values: list[float], scale: float = 1.0, digits: int = 1) -> str:
    mean = f"{scale * statistics.mean(values):.{digits}f}"
    return mean + (f" ± {scale * statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def table(out: Path) -> None:
    cells: dict[tuple[str, int, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for record in read(out):
        cells[record["network"], record["share"], record["method"]][record["seed"]] = record
    for network in dict.fromkeys(key[0] for key in cells):
        whole = cells[network, 100, "original"]
        print(f"\n{network}: {len(whole)} seeds, mean ± standard deviation\n")
        print("| MACs | method | accuracy % | less than the original's | untuned % | MACs % | params % | CPU ms, "
              "16 images | GPU ms | search s | tuning s | images spent |\n|" + " --- |" * 12)  # fmt: skip
        for (name, share, method), found in cells.items():
            if name != network:
                continue
            seeds = [seed for seed in found if seed in whole]
            rows = [found[seed] for seed in seeds]
            lost = [whole[seed]["accuracy"] - found[seed]["accuracy"] for seed in seeds]
            gpu = [r["gpu_ms"] for r in rows if "gpu_ms" in r]
            cost = [
                spread([r[key] / whole[s][key] for s, r in zip(seeds, rows, strict=True)], 100)
                for key in ("macs", "params")
            ]
            print(
                f"| {share} % | {method} | {spread([r['accuracy'] for r in rows], 100, 2)} | "
                f"{spread(lost, 100, 2)} | {spread([r['untuned'] for r in rows], 100)} | {' | '.join(cost)} | "
                f"{spread([r['cpu_ms'] for r in rows])} | {spread(gpu, digits=2) if gpu else ''} | "
                f"{spread([r['search_s'] for r in rows], digits=0)} | {spread([r['tune_s'] for r in rows], digits=0)} | "
                f"{rows[0].get('spent', '')} |"
            )


def speed(out: Path, mode: Mode, rounds: int = 5) -> None:
    """Print how much faster what the strategies chose is than the original: in turn, on one thread."""
    torch.set_num_threads(1)
    batch = EXAMPLE.repeat(16, 1, 1, 1)
    print("| network | method | MACs | seeds | MACs saved % | times as fast |\n|" + " --- |" * 6)
    found: dict[tuple[str, str, int], list[tuple[float, float]]] = defaultdict(list)
    for record in read(out):
        if "vector" not in record:
            continue
        original = build(*mode.networks[record["network"]], seed=0).eval()
        space = group_space(original)
        chosen = refiner.rewrite(original, space.architecture(record["vector"])).eval()
        macs = [measure_cost(network, EXAMPLE).macs for network in (original, chosen)]
        times = [[measure_latency(n, batch) for n in (original, chosen)] for _ in range(rounds)]
        ratio = statistics.median(before / after for before, after in times)
        key = record["network"], record["method"], record["share"]
        found[key].append((100 * (1 - macs[1] / macs[0]), ratio))
    for (network, method, share), pairs in found.items():
        saved, ratios = zip(*pairs, strict=True)
        print(
            f"| {network} | {method} | {share} % | {len(pairs)} | {spread(saved)} | {spread(ratios, digits=2)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("run", "table", "speed"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", help="folder:DIR")
    parser.add_argument("--mode", choices=MODES, default="cpu")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="no")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--shares", type=int, nargs="+", default=[60], help="of the MACs, in percent"
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=[m for m in METHODS if m not in EXTRA]
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after so many")
    parser.add_argument("--shard", default="0/1", help="I/N: every N-th seed, from the I-th")
    args = parser.parse_args()
    if args.action == "table":
        table(args.out)
    elif args.action == "speed":
        speed(args.out, MODES[args.mode])
    else:
        run(args)


if __name__ == "__main__":
    main()
