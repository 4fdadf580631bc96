"""What all methods share: one trained network, its pictures, and how a network is tuned and scored."""

import itertools
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peers.networks import Parts
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.cost.costs import measure_cost
from refiner.cost.deployment import Deployment
from refiner.cost.whole_latencies import WHOLE_PATIENCE
from refiner.runtimes.timing import ratio, timed_networks
from refiner.search.search import SearchConfig
from refiner.training.devices import Devices
from refiner.training.evaluation import evaluate, recalibrate
from refiner.training.loop import TrainConfig, train
from refiner.training.task import Classification, Task
from refiner.training.teacher import WithTeacher


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """The size of an experiment."""

    epoch: int
    """CIFAR-10 pictures in an epoch."""
    batch: int
    epochs: tuple[int, ...]
    """Lengths of the fine-tunings, each from the untuned network."""
    lite_epochs: tuple[int, ...]
    """Those of EfficientNet-Lite0, in passes over its few pictures."""
    search: SearchConfig
    scratch: int | None
    """Epochs of a training from scratch; None leaves that method out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """One trained network and one seed."""

    name: str
    seed: int
    model: nn.Module
    """The original, in eval mode; never changed."""
    parts: Parts
    mode: Mode
    tuning: TrainConfig
    labelled: bool
    """Whether fine-tuning sees labels."""
    devices: Devices
    out: Path
    ablated: str | None = None
    resource: str = "macs"
    """Of the budget: ``macs``, or ``latency`` in onnxruntime."""
    task: Classification = field(default_factory=Classification)

    @property
    def example(self) -> torch.Tensor:
        size = self.parts.test.images.shape[-1]
        return torch.zeros(1, 3, size, size, device=self.devices.device)

    @property
    def epochs(self) -> tuple[int, ...]:
        return self.mode.epochs if self.labelled else self.mode.lite_epochs

    def config(self, epochs: int) -> TrainConfig:
        return replace(
            self.tuning,
            epochs=epochs,
            teacher_weight=self.tuning.teacher_weight if self.labelled else 1.0,
        )

    def macs(self, network: nn.Module) -> int:
        return measure_cost(network, self.example).macs

    def share(self, network: nn.Module) -> float:
        """Return the share of the original's MACs or milliseconds that a network takes."""
        if self.resource == "macs":
            return self.macs(network) / self.macs(self.model)
        return measured_share(self.model, network, self.example)

    def with_teacher(self) -> Task:
        """Return the task of the fine-tuning, with the original as teacher."""
        return WithTeacher(self.task, self.model, weight=self.config(1).teacher_weight)

    def tune(self, network: nn.Module, config: TrainConfig, task: Task, kept: Path) -> None:
        """Train a network in place, from its last epoch on if ``kept`` holds one."""
        state = torch.load(kept, weights_only=False) if kept.exists() else None
        train(
            network, self.parts.train, self.parts.held, task,
            devices=self.devices, config=config, seed=self.seed, state=state,
            on_epoch=lambda state: torch.save(state, kept),
        )  # fmt: skip
        kept.unlink(missing_ok=True)

    def accuracy(self, network: nn.Module, *, held: bool = False) -> float:
        loader = self.parts.held if held else self.parts.test
        return evaluate(network.to(self.devices.device), loader, self.task, self.devices)

    def batches(self, count: int) -> list[Any]:
        """Return training batches, always the same ones."""
        with seeded(self.seed):
            return list(itertools.islice(self.devices.batches(self.parts.train), count))

    def recalibrate(self, network: nn.Module) -> None:
        recalibrate(network, self.batches(16), self.task, self.devices)

    def copy(self) -> nn.Module:
        return copied(self.model)


def measured_share(model: nn.Module, network: nn.Module, example: torch.Tensor) -> float:
    """Return the share of a model's milliseconds in onnxruntime, timed in turn with it."""
    where = Deployment.choose(example.cpu(), runtime="onnxruntime", device=torch.device("cpu"))
    before, after = timed_networks([model, network], where.batch, where.runtime, WHOLE_PATIENCE)
    return ratio(after, before)


@contextmanager
def watched(devices: Devices) -> Iterator[dict[str, float]]:
    """Give a record that holds the seconds, those of the CPU and the peak memory of what ran inside, at the end."""
    record: dict[str, float] = {}
    if devices.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        _forget_peak()
    start, used = time.perf_counter(), time.process_time()
    yield record
    record["seconds"] = round(time.perf_counter() - start, 1)
    record["cpu_seconds"] = round(time.process_time() - used, 1)
    if devices.device.type == "cuda":
        record["peak_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    else:
        record["peak_mib"] = round(_peak_kib() / 2**10)


def _forget_peak() -> None:
    # Linux only. Elsewhere the peak is that of the process since its start.
    refs = Path("/proc/self/clear_refs")
    if refs.exists():
        refs.write_text("5")


def _peak_kib() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
