"""Trained networks made cheaper by this tool and by its peers, tested on pictures nothing else saw.

    python benchmarks/peers.py run   --weights DIR --data DIR --out results
    python benchmarks/peers.py run   --samples DIR --out results --networks lite0
    python benchmarks/peers.py table --out results

--weights holds `cifar_resnet20_jpeg.safetensors` and `cifar_resnet56_jpeg.safetensors`, --data
`train/CLASS/*.jpg` of CIFAR-10, --samples one picture of each class of ImageNet, `WNID.jpg`.
5,000 pictures of CIFAR-10 test, 2,000 score architectures ("held"), and the rest trains.

A step makes a network (`untuned`) or tunes it for some epochs, as a rule in less than 8 minutes. A
finished step is a line of OUT/results.jsonl, and the same command goes on after the last one.
--minutes begins no step after so many, --shard 0/2 takes every second seed. In mode `cpu` an epoch
is 8,000 pictures, others in each epoch. In mode `gpu` it is all of them.

All networks are tuned in the same way: the defaults of `refine`, with the original as teacher. Points lost
are against the original, tuned for as long. EfficientNet-Lite0 is tuned without labels on 480
pictures, 120 score architectures, and 400 test. Only Taylor importance sees its labels.

milp, controller, informed_controller
                    `refiner.refine` with its defaults, and that strategy
random              the same with as many architectures at random, the best of them
single_draw         the same with one architecture at random
uniform             the same, each slot keeping the same share of its channels
torch_pruning       Taylor, group magnitude and magnitude importance, global and isomorphic, with
                    and without the residual stream; the best on held pictures after 3,840
                    pictures.
                    Shortcuts of option A are written as the pointwise convs that do the same, since
                    it does not follow F.pad over channels
fastnas             needs an environment of its own, which holds this package,
                    nvidia-modelopt>=0.40 and torchprofile==0.0.4; name it with --methods
narrow              all channels in one proportion, from scratch; in mode gpu

With --resource latency, shares are of the original's milliseconds in onnxruntime, batch 1, on as many
threads as torch uses. Torch-Pruning goes on until it is measured to keep within them, with
`round_to=8`.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peers.ground import Ground, Mode, watched
from peers.methods import ABLATIONS, EXTRA, METHODS
from peers.networks import Parts, cifar, imagenet_samples, trained_lite0, trained_resnet
from peers.table import KEY, print_tables, read
from torch import nn

from refiner.core.errors import RefinerError
from refiner.core.randomness import derive_seed
from refiner.cost.costs import measure_cost
from refiner.search.search import SearchConfig
from refiner.training.devices import PRECISIONS, Devices
from refiner.training.loop import TrainConfig


def searched(trials: int) -> SearchConfig:
    return SearchConfig(
        trials=trials, epochs=8, samples=5, warmup_epochs=0, train_weights=False, top_k=5, front=0,
        recalibration_batches=4,
    )  # fmt: skip


MODES = {
    "cpu": Mode(
        epoch=8000, batch=64, epochs=(1, 5), lite_epochs=(3,), search=searched(100), scratch=None
    ),
    "gpu": Mode(
        epoch=10**9, batch=128, epochs=(1, 5, 10), lite_epochs=(3, 20), search=searched(500), scratch=100
    ),
}  # fmt: skip
SHARES = {"resnet20": (60, 50, 30, 20), "resnet56": (60, 50, 30, 20), "lite0": (80, 60)}
FINE_TUNING = TrainConfig.fine_tuning()


def load(name: str, args: argparse.Namespace) -> tuple[nn.Module, Parts]:
    """Return a trained network and its pictures."""
    mode = MODES[args.mode]
    if name == "lite0":
        parts = imagenet_samples(args.samples, args.out / "samples.pt", batch=16)
        return trained_lite0(), parts
    parts = cifar(args.data, args.out / "cifar.pt", epoch=mode.epoch, batch=mode.batch)
    return trained_resnet(int(name.removeprefix("resnet")), args.weights), parts


def steps(at: Ground, args: argparse.Namespace) -> Iterator[tuple[int, str, int]]:
    """Yield share, method and epochs of each step, in an order in which each has what it needs."""
    shares = [share for share in SHARES[at.name] if args.shares is None or share in args.shares]
    methods = [method for method in args.methods if method != "original"]
    wanted = [(100, "original")] if "original" in args.methods else []
    for share, method in [*wanted, *((share, method) for share in shares for method in methods)]:
        for epochs in (0, *at.epochs):
            if args.epochs is None or epochs in args.epochs:
                yield share, method, epochs


def carry_out(at: Ground, share: int, method: str, epochs: int, out: Path) -> dict[str, Any]:
    """Make a network, or tune one that was made, and return what is recorded of it."""
    (out / "made").mkdir(exist_ok=True)
    file = out / "made" / f"{at.name}-{at.seed}-{share}-{method}.pt"
    if epochs:
        if not file.exists():
            return {"failed": "not made"}
        network = torch.load(file, weights_only=False, map_location=at.devices.device)
        with watched(at.devices) as record:
            at.tune(network, at.config(epochs), at.with_teacher(), file.with_suffix(".kept"))
        return {**record, "accuracy": at.accuracy(network)}
    try:
        with watched(at.devices) as record:
            network, more = METHODS[method](at, share)
    except RefinerError as error:
        return {"failed": str(error)}
    torch.save(network.cpu(), file)
    accuracy = at.accuracy(network)
    cost = measure_cost(network, at.example)
    share = {"latency": round(at.share(network), 4)} if at.resource == "latency" else {}
    return {
        **record,
        "accuracy": accuracy,
        "macs": cost.macs,
        "params": cost.params,
        **share,
        **more,
    }


def run(args: argparse.Namespace) -> None:
    began = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    devices = Devices.choose(args.device, args.precision)
    index, count = map(int, args.shard.split("/"))
    done = {tuple(record[key] for key in KEY) for record in read(args.out)}
    for name in args.networks:
        model, parts = load(name, args)
        parts = parts.to(devices.device)
        for seed in range(args.seeds)[index::count]:
            at = Ground(
                name=name, seed=seed, model=devices.move(model), parts=parts, mode=MODES[args.mode],
                tuning=FINE_TUNING, labelled=name != "lite0", devices=devices, out=args.out,
                ablated=args.ablate, resource=args.resource,
            )  # fmt: skip
            for share, method, epochs in steps(at, args):
                key = (name, seed, share, method, epochs)
                if key in done:
                    continue
                if (time.perf_counter() - began) / 60 > args.minutes:
                    return
                torch.manual_seed(derive_seed(seed, share, method, epochs))
                record = dict(zip(KEY, key)) | carry_out(at, share, method, epochs, args.out)
                with (args.out / f"results{index}.jsonl").open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(json.dumps(record), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("action", choices=("run", "table"))
    add("--out", type=Path, required=True)
    add("--weights", type=Path, help="folder of the trained ResNets")
    add("--data", type=Path, help="folder of CIFAR-10")
    add("--samples", type=Path, help="folder of the samples of ImageNet")
    add("--mode", choices=MODES, default="cpu")
    add("--device", default="auto")
    add("--precision", choices=PRECISIONS, default="no")
    add("--networks", nargs="+", choices=SHARES, default=["resnet20", "resnet56"])
    add("--seeds", type=int, default=3)
    add("--shares", type=int, nargs="+", help="of the MACs, in percent")
    add("--methods", nargs="+", choices=METHODS, default=[m for m in METHODS if m not in EXTRA])
    add(
        "--epochs",
        type=int,
        nargs="+",
        help="lengths of the fine-tuning; 0 only makes the networks",
    )
    add("--ablate", choices=ABLATIONS, help="leave one part of this tool out")
    add("--resource", choices=("macs", "latency"), default="macs", help="of the shares")
    add("--minutes", type=float, default=1e9, help="begin nothing after so many")
    add("--shard", default="0/1", help="I/N: every N-th seed, from the I-th")
    args = parser.parse_args()
    if args.action == "table":
        print_tables(args.out)
    else:
        run(args)


if __name__ == "__main__":
    main()
