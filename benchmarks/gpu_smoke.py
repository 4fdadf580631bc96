"""Run every path of refiner on one device, and print pass or FAIL and the seconds of each.

Made for a machine with one GPU, where it takes less than eight minutes. A path that fails does not stop
the others; the exit status is 1 if any failed. ``--device cpu --quick`` takes seconds and is part of the
tests. The data are images with a bright quarter, whose number is the label; the network learns it first.

    python benchmarks/gpu_smoke.py
"""

import argparse
import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import refiner
from refiner.core.progress import Silent
from refiner.data.tensor_loader import TensorLoader
from refiner.exports.writers import GENERAL
from refiner.graph.slots import GRANULARITIES
from refiner.search.strategies import STRATEGIES
from refiner.training.devices import Devices

CLASSES = 4


class Skip(Exception):  # noqa: N818
    """A path that cannot be run here, with the reason."""


class Block(nn.Module):
    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.skip = nn.Conv2d(width, out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.skip(x)).relu()


class Net(nn.Module):
    """A small residual network; with ``dense`` it labels each pixel."""

    def __init__(self, width: int, dense: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.block1, self.block2 = Block(width, width, 1), Block(width, 2 * width, 2)
        self.head = nn.Conv2d(2 * width, CLASSES, 1)
        self.up = nn.Upsample(scale_factor=2) if dense else nn.Identity()
        self.dense = dense

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.up(self.head(self.block2(self.block1(self.stem(x).relu()))))
        return y if self.dense else y.amax((2, 3))


@dataclass(kw_only=True)
class Bench:
    """What the paths share."""

    device: str
    quick: bool
    folder: Path
    precision: str = "no"

    @property
    def images(self) -> int:
        return 64 if self.quick else 1024

    @property
    def size(self) -> int:
        return 16 if self.quick else 64

    @property
    def batch(self) -> int:
        return 16 if self.quick else 64

    def tensors(self, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images, uint8, N x 3 x size x size, and their labels."""
        generator = torch.Generator().manual_seed(seed)
        count, half = self.images, self.size // 2
        images = torch.randint(0, 90, (count, 3, self.size, self.size), generator=generator)
        labels = torch.arange(count) % CLASSES
        for image, label in zip(images, labels.tolist()):
            y, x = half * (label // 2), half * (label % 2)
            image[label % 3, y : y + half, x : x + half] += 150
        return images.to(torch.uint8), labels

    def loaders(self) -> tuple[TensorLoader, TensorLoader]:
        """Return a training and a validation loader that hold their images on the device."""
        return tuple(
            TensorLoader(
                *self.tensors(seed), batch_size=self.batch, mean=torch.full((3,), 0.3),
                std=torch.full((3,), 0.3), train=not seed, pad=1,
            )
            for seed in (0, 1)
        )  # fmt: skip

    def disk_loaders(self, workers: int) -> tuple[DataLoader, DataLoader]:
        """Return torch's loaders of the same images, read by processes of their own."""
        found = []
        for seed in (0, 1):
            images, labels = self.tensors(seed)
            data = TensorDataset((images.float() / 255 - 0.3) / 0.3, labels)
            found.append(
                DataLoader(
                    data, self.batch, shuffle=not seed, drop_last=not seed, num_workers=workers
                )
            )
        return tuple(found)

    @cached_property
    def trained(self) -> Net:
        """The network to refine, trained."""
        torch.manual_seed(0)
        net = Net(8 if self.quick else 32)
        config = refiner.TrainConfig(epochs=2, lr_max=0.02)
        devices = Devices.choose(self.device, self.precision)
        train, val = map(devices.loader, self.loaders())
        refiner.train(net, train, val, refiner.Classification(), devices=devices, config=config)
        return net.cpu().eval()

    def refined(self, model: nn.Module | None = None, **given: object) -> refiner.Result:
        """Refine a model; by default the trained one, its candidates fitted to it."""
        options: dict[str, object] = {
            "device": self.device,
            "precision": self.precision,
            "progress": False,
            "baselines": False,
            "budget": "macs=70%",
            "distill": refiner.DistillConfig(steps=2, solve_batches=2),
            "search": refiner.SearchConfig(
                epochs=1, trials=4, warmup_epochs=0, train_weights=False, score_batches=1
            ),
        }
        loaders = given.pop("loaders", None) or self.loaders()
        return refiner.refine(model or self.trained, *loaders, force=True, **{**options, **given})


Path_ = Callable[[Bench], None]
PATHS: dict[str, Path_] = {}


def path(name: str) -> Callable[[Path_], Path_]:
    """Register a function as a path of that name."""

    def register(function: Path_) -> Path_:
        PATHS[name] = function
        return function

    return register


@path("trace on the CPU")
def _trace(bench: Bench) -> None:
    refiner.trace(bench.trained, torch.randn(2, 3, bench.size, bench.size))


@path("trace and search space on the device")
def _trace_there(bench: Bench) -> None:
    device = Devices.choose(bench.device).device
    model = Net(8).to(device)
    x = torch.randn(2, 3, bench.size, bench.size, device=device)
    refiner.trace(model, x)
    assert len(refiner.search_space(model, x).slots) >= 2, "convs were lost on the device"


@path("distillation, fine-tuning with a teacher, baselines")
def _distill(bench: Bench) -> None:
    config = refiner.TrainConfig(epochs=1, lr_max=0.01, teacher_weight=0.5)
    result = bench.refined(train=config, baselines=True)
    assert result.report.to_markdown()


def _strategy(name: str) -> Path_:
    return lambda bench: _check(bench.refined(strategy=name))


for _name in STRATEGIES:
    path(f"strategy {_name}")(_strategy(_name))


@path("training of the shared weights, controller")
def _scratch(bench: Bench) -> None:
    search = refiner.SearchConfig(epochs=1, trials=4, warmup_epochs=1, score_batches=1)
    train = refiner.TrainConfig(epochs=1, lr_max=0.01)
    _check(bench.refined(distill=None, strategy="controller", search=search, train=train))


def _budget(amount: str) -> Path_:
    return lambda bench: _check(bench.refined(budget=amount))


def _slots(granularity: str) -> Path_:
    return lambda bench: _check(bench.refined(slots=granularity))


for _granularity in GRANULARITIES:
    path(f"slots {_granularity}")(_slots(_granularity))


for _amount in ("macs=60%", "params=70%", "latency=95%", "latency=1000ms"):
    path(f"budget {_amount}")(_budget(_amount))


@path("mixed precision, bf16")
def _bf16(bench: Bench) -> None:
    alone(bench, "--only", "distillation", "--precision", "bf16")  # a process has one precision


@path("loaders with workers")
def _workers(bench: Bench) -> None:
    _check(bench.refined(loaders=bench.disk_loaders(workers=1)))


@path("segmentation")
def _segmentation(bench: Bench) -> None:
    def dense(loader: TensorLoader) -> DataLoader:
        images, labels = next(iter(loader))
        masks = labels[:, None, None].expand(-1, bench.size, bench.size).contiguous()
        return DataLoader(TensorDataset(images.cpu(), masks.cpu()), 8)

    loaders = tuple(map(dense, bench.loaders()))
    train = refiner.TrainConfig(epochs=1, lr_max=0.01, teacher_weight=0.5)
    _check(
        bench.refined(Net(8, dense=True).eval(), loaders=loaders, task="segmentation", train=train)
    )


@path("training of a chosen architecture")
def _train(bench: Bench) -> None:
    refiner.train_architecture(
        Net(8), *bench.loaders(), config=refiner.TrainConfig(epochs=1), device=bench.device,
        progress=False,
    )  # fmt: skip


@path("latency of a model")
def _latency(bench: Bench) -> None:
    device = Devices.choose(bench.device).device
    x = torch.randn(1, 3, bench.size, bench.size, device=device)
    assert refiner.measure_latency(Net(8).to(device), x) > 0


def _export(form: str) -> Path_:
    def export(bench: Bench) -> None:
        if form == "onnx" and importlib.util.find_spec("onnxruntime") is None:
            raise Skip("onnxruntime is not installed")
        device = Devices.choose(bench.device).device
        model = Net(8).to(device).eval()
        x = torch.randn(2, 3, bench.size, bench.size, device=device)
        how = refiner.export(model, bench.folder / f"net.{form}", x, form)
        assert "any batch size" in how, how

    return export


for _form in GENERAL:
    path(f"export {_form}")(_export(_form))


@path("stopped and resumed")
def _resume(bench: Bench) -> None:
    out = bench.folder / "run"
    search = refiner.SearchConfig(epochs=2, trials=4, warmup_epochs=1, score_batches=1)
    given = {"distill": None, "strategy": "controller", "search": search, "out": out}

    class StopsInTheSecondEpoch(Silent):
        steps = 0

        def advance(self, *_args: object, **_kwargs: object) -> None:
            self.steps += 1
            if (out / "checkpoint").exists() and self.steps > 1:
                raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        bench.refined(**given, progress=StopsInTheSecondEpoch())
        raise AssertionError("the run was not stopped")
    _check(bench.refined(**given, resume=True))
    assert (out / "report.json").exists()


@path("command: refine, report, export")
def _command(bench: Bench) -> None:
    out = bench.folder / "command"
    model = "timm:test_resnet" if bench.quick else "timm:resnet18"
    command(
        model, "--data", "digits", "--limit", "64", "--slots", "conv", "--trials", "2",
        "--search-epochs", "1", "--warmup-epochs", "1", "--strategy", "controller", "--epochs", "1",
        "--no-baselines", "--device", bench.device, "--out", str(out),
    )  # fmt: skip
    command("report", str(out))
    command("export", str(out), "--format", "python")


@path("command: eval")
def _eval(bench: Bench) -> None:
    model = "timm:test_resnet" if bench.quick else "timm:resnet18"
    command("eval", model, "--data", "digits", "--limit", "64", "--device", bench.device)


@path("two processes")
def _two(bench: Bench) -> None:
    shared = bench.device != "cpu" and torch.cuda.device_count() < 2
    if shared:
        print("      NCCL is left out: it wants a GPU for each process. They share one, with gloo.")
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    alone(bench, "--one-of-two", launch=launch)


def one_of_two(bench: Bench) -> None:
    """Run one of two processes: a distilled run, then one whose weights are trained."""
    if bench.device != "cpu" and torch.cuda.device_count() < 2:
        torch.distributed.init_process_group("gloo")
        os.environ["LOCAL_RANK"] = "0"  # both on one GPU
    _distill(bench)
    _scratch(bench)


def _check(result: refiner.Result) -> None:
    assert result.report is not None
    device = torch.device("cpu")
    x = torch.zeros(2, 3, 32, 32)
    assert bool(result.model.to(device).eval()(x).isfinite().all()), "the outputs are not finite"


def command(*arguments: str) -> str:
    """Run the command and return what it printed.

    Raises:
        RuntimeError: it failed; the message is its last line.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "refiner.cli", *arguments],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def alone(bench: Bench, *arguments: str, launch: Sequence[str] = ()) -> None:
    """Run this script with further arguments in a process of its own, or several.

    Raises:
        CalledProcessError: a path failed there.
    """
    quick = ["--quick"] if bench.quick else []
    subprocess.run(
        [sys.executable, "-W", "ignore", *launch, __file__, "--device", bench.device, *quick, *arguments],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240,
    )  # fmt: skip


def explained(error: Exception) -> str:
    """Return an error in one line, with the place in this repository's code where it arose."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in error.stdout.splitlines() if "Error" in line]
        return lines[0] if lines else f"exit {error.returncode}"
    own = [
        f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename
    ]
    return f"{type(error).__name__}: {error} ({Path(own[-1].filename).name}, line {own[-1].lineno})"


def run_paths(bench: Bench, paths: dict[str, Path_]) -> Iterator[tuple[str, str, float, str]]:
    """Run the paths one after another, and yield name, outcome, seconds and what went wrong."""
    for name, function in paths.items():
        start, outcome, why = time.perf_counter(), "pass", ""
        try:
            function(bench)
        except Skip as reason:
            outcome, why = "skip", str(reason)
        except Exception as error:
            outcome = "FAIL"
            why = explained(error)
        yield name, outcome, time.perf_counter() - start, why


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny images and networks")
    parser.add_argument("--precision", default="no", help="no or bf16")
    parser.add_argument("--only", default="", help="run the paths whose name holds this text")
    parser.add_argument("--one-of-two", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    chosen = {name: function for name, function in PATHS.items() if options.only in name}
    counts = {"pass": 0, "skip": 0, "FAIL": 0}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            device=options.device, quick=options.quick, folder=Path(folder),
            precision=options.precision,
        )  # fmt: skip
        if options.one_of_two:
            one_of_two(bench)
            return 0
        card = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
        print(f"refiner {refiner.__version__}, torch {torch.__version__}, {card}", flush=True)
        start = time.perf_counter()
        for name, outcome, seconds, why in run_paths(bench, chosen):
            counts[outcome] += 1
            print(f"{outcome}  {seconds:6.1f} s  {name}{f': {why}' if why else ''}", flush=True)
        print(f"{counts['pass']} passed, {counts['FAIL']} failed, {counts['skip']} skipped, "
              f"{time.perf_counter() - start:.0f} s")  # fmt: skip
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
