"""Tiny networks that the tests share."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from refiner.cost.latency import Conditions, Latency
from refiner.cost.latency_table import LatencyTable
from refiner.cost.whole_latencies import anchor_of
from refiner.enas.macro import MacroSpace
from refiner.runs.costing import cost_space
from refiner.runs.job import Output, set_up
from refiner.runs.report_data import MeasuredLatency
from refiner.runs.searching import make_search, run_search_stage
from refiner.runs.settings import Settings
from refiner.search.search_config import SearchConfig
from refiner.space.architecture import Vector
from refiner.space.search_space import SearchSpace, search_space
from refiner.training.devices import Devices
from refiner.training.task import Classification

PRUNING_CANDIDATES = ("keep0.875", "keep0.75", "keep0.625", "keep0.5", "keep0.375", "keep0.25")


class Block(nn.Module):
    """A residual block of two conv3x3, with a projection where shapes differ."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.skip(x))


class TinyResNet(nn.Module):
    """A stem, two residual blocks (the second with a projection), a classifier; 4 conv slots."""

    def __init__(self, num_classes: int = 10, width: int = 4, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.block1 = Block(width, width)
        self.block2 = Block(width, 2 * width, 2)
        self.fc = nn.Linear(2 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block2(self.block1(torch.relu(self.bn(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


def build_tiny(num_classes: int = 10, width: int = 4, in_channels: int = 3) -> nn.Module:
    return TinyResNet(num_classes, width, in_channels)


class PlainNet(nn.Module):
    """A user's plain model: biases, no norm after one conv, functional calls, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 5, padding=2)
        self.second = nn.Conv2d(6, 6, 3, padding="same")
        self.norm = nn.BatchNorm2d(6)
        self.third = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = torch.nn.functional.max_pool2d(torch.relu(self.norm(self.second(x))), 2)
        return self.fc(self.dropout(torch.relu(self.third(x)).flatten(2).mean(2)))


class RandomNet(nn.Module):
    """A random directed graph of convs, norms, adds and concats over odd-sized images.

    Args:
        seed: decides everything.
        steps: how many operations follow the stem.
    """

    def __init__(self, seed: int, steps: int = 8) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.size = draw.choice([9, 11, 14])
        self.modules_of_steps = nn.ModuleList()
        self.program: list[tuple[str, int, int]] = []
        channels = [draw.choice([4, 6])]
        sizes = [self.size]
        self.stem = nn.Conv2d(3, channels[0], 3, padding=1)
        for _ in range(steps):
            kind = draw.choice(["conv", "conv", "conv", "norm", "relu", "add", "concat", "drop"])
            a = draw.randrange(len(channels))
            module: nn.Module = nn.Identity()
            out, size, b = channels[a], sizes[a], a
            if kind == "conv":
                kernel = draw.choice([1, 2, 3, 5])
                stride = draw.choice([1, 1, 2]) if size > 6 else 1
                groups = draw.choice([1, 2]) if kernel != 1 else 1
                out = draw.choice([4, 6, channels[a]])
                padding = kernel // 2 if kernel != 2 else 0
                size = (size + 2 * padding - kernel) // stride + 1
                module = nn.Conv2d(
                    channels[a], out, kernel, stride, padding, groups=groups,
                    bias=draw.random() < 0.5,
                )  # fmt: skip
            elif kind == "norm":
                module = nn.BatchNorm2d(out)
            elif kind == "drop":
                module = nn.Dropout(0.3)
            elif kind in ("add", "concat"):
                same = [
                    i
                    for i in range(len(channels))
                    if sizes[i] == size and (kind == "concat" or channels[i] == out)
                ]
                b = draw.choice(same)
                if kind == "concat":
                    out += channels[b]
            self.program.append((kind, a, b))
            self.modules_of_steps.append(module)
            channels.append(out)
            sizes.append(size)
        self.head = nn.Linear(sum(channels), 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [self.stem(x)]
        for (kind, a, b), module in zip(self.program, self.modules_of_steps, strict=True):
            if kind == "add":
                values.append(values[a] + values[b])
            elif kind == "concat":
                values.append(torch.cat([values[a], values[b]], 1))
            elif kind == "relu":
                values.append(torch.relu(values[a]))
            else:
                values.append(module(values[a]))
        return self.head(torch.cat([v.mean((2, 3)) for v in values], 1))


def latencies(space: SearchSpace, model: float, of: Callable[[str, int], float]) -> LatencyTable:
    """Return a table without noise in which a candidate takes ``of(name, index)`` milliseconds."""
    return LatencyTable(
        conditions=Conditions(runtime="eager 2", device="a CPU", batch=1, precision="no"),
        model=Latency(median=model, noise=0.0),
        slots={
            slot.name: {n: Latency(median=of(n, k), noise=0.0) for k, n in enumerate(names)}
            for slot, names in zip(space.slots, space.candidates, strict=True)
        },
    )


def anchored_as_predicted(
    table: LatencyTable,
    space: SearchSpace,
    vectors: Sequence[Vector],
    *_where: object,
    factor: float = 1.0,
) -> LatencyTable:
    """Stand in for ``anchored``: networks take so many times what the table predicts of them."""
    new = []
    for architecture in map(space.architecture, vectors):
        time = table.predicted(architecture).median
        new.append(anchor_of(architecture, factor * time / table.model.median))
    return replace(table, anchors=(*table.anchors, *new))


def measured_latency(
    runtime: str, before: float, after: float, noise: tuple[float, float] = (0.25, 0.125)
) -> MeasuredLatency:
    return MeasuredLatency(
        conditions=Conditions(runtime=runtime, device="a CPU", batch=1, precision="no"),
        before=Latency(median=before, noise=noise[0]),
        after=Latency(median=after, noise=noise[1]),
    )


def images(count: int = 2, size: int = 8, channels: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator)


def batches(count: int = 3, size: int = 8, batch: int = 8, seed: int = 0) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(batch, 3, size, size, generator=generator),
            torch.randint(0, 10, (batch,), generator=generator),
        )
        for _ in range(count)
    ]


def run_seeded(model: nn.Module, x: torch.Tensor, training: bool) -> torch.Tensor:
    """Return the output in a mode with the global seed 0, without gradients."""
    model.train(training)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        return model(x)


class UNet(nn.Module):
    """Two levels down and up; each level up joins what went down."""

    def __init__(self, num_classes: int = 2, width: int = 4) -> None:
        super().__init__()
        self.down1, self.down2 = self._level(3, width), self._level(width, 2 * width)
        self.bottom = self._level(2 * width, 4 * width)
        self.up2, self.up1 = self._level(6 * width, 2 * width), self._level(3 * width, width)
        self.pool, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        self.head = nn.Conv2d(width, num_classes, 1)

    @staticmethod
    def _level(in_channels: int, channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = self.down1(x)
        two = self.down2(self.pool(one))
        x = self.up(self.bottom(self.pool(two)))
        x = self.up(self.up2(torch.cat([x, two], 1)))
        return self.head(self.up1(torch.cat([x, one], 1)))


class ActivatedNorm(nn.BatchNorm2d):
    """A norm with its activation, as timm's BatchNormAct2d: the operation is called by it."""

    def forward(self, x):
        return torch.relu(
            torch.nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias,
                self.training, self.momentum, self.eps,
            )
        )  # fmt: skip


class HeadTask(Classification, nn.Module):
    """Classification by a linear head of its own on the model's outputs."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        Classification.__init__(self)
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(10, 10, generator=generator) / 3)

    def loss(self, model, batch):
        return super().loss(lambda x: model(x) @ self.weight, batch)

    def measure(self, model, batch):
        return super().measure(lambda x: model(x) @ self.weight, batch)


MACRO_SPACE = MacroSpace(nodes=4, operations=("conv3x3", "depthwise3x3", "maxpool3x3"))
MACRO_OPTIMUM = (2, 0, 1, 1, 2, 0, 1)


def macro_value(vector: tuple[int, ...]) -> float:
    """Score of a macro vector: the share of its places that agree with a planted one."""
    return sum(a == b for a, b in zip(vector, MACRO_OPTIMUM)) / len(MACRO_OPTIMUM)


def play(strategy, rounds: int, value, count: int = 6) -> list:
    """Ask and tell a strategy, and return what it asked for."""
    log = []
    for _ in range(rounds):
        vectors = strategy.ask(count)
        strategy.tell(vectors, [value(v) for v in vectors])
        log.append(vectors)
    return log


def searched(budget=(), train=None, distill=None, **output):
    """Return the job, settings, costed space, search and its result of a small run."""
    settings = Settings.of(
        {
            "budget": budget,
            "distill": distill,
            "train": train,
            "search": SearchConfig(
                trials=4, epochs=2, samples=2, top_k=2, warmup_epochs=0, train_weights=distill is None,
            ),
        }
    ).resolved()  # fmt: skip
    torch.manual_seed(3)
    job = set_up(
        TinyResNet(), batches(3), batches(2, seed=1), task="classification", example_input=None,
        seed=0, devices=Devices.choose("cpu"), output=Output(progress=False, **output),
    )  # fmt: skip
    costed = cost_space(job, settings, search_space(job.model, job.example))
    search = make_search(job, settings, costed)
    found = run_search_stage(job, settings, costed, search).found
    return job, settings, costed, search, found
