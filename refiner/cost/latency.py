"""Milliseconds of a forward pass of a network, on the device that will run it.

Several networks run in turn, one pass each per round. So a slow phase of the machine slows all of
them. The order within a round is random: a scheduler's time slice may be about as long as a round,
and would interrupt the same network each time. The result is the median over the rounds, and the
median distance from it as noise. The GPU is synchronized once, after all rounds: events in its
stream mark the begin and end of each pass.
With precision bf16 the passes run under autocast, which casts the weights once, in the warm-up
rounds. In torch's inference mode it would cast them in each pass.
"""

import platform
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from refiner.core.batches import batch_size
from refiner.core.inputs import ExampleInput, call, fresh, to_device_of
from refiner.core.surgery import copied
from refiner.graph.trace_check import repeatable
from refiner.training.devices import Devices

_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A time and its noise, in milliseconds."""

    median: float
    noise: float
    """Median distance of a round from the median; of a sum, the sum of its parts'."""

    @classmethod
    def of(cls, times: Sequence[float]) -> "Latency":
        """Return the latency of measured ``times`` in milliseconds."""
        median = statistics.median(times)
        return cls(median=median, noise=statistics.median(abs(t - median) for t in times))

    def __str__(self) -> str:
        """Return it for people: ``4.10 ± 0.05 ms``."""
        return f"{self.median:.2f} ± {self.noise:.2f} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What latencies depend on beside the network."""

    device: str
    """Name of the GPU, or of the CPU with the number of threads."""
    batch: int
    precision: str
    torch: str
    """Its version."""

    def __str__(self) -> str:
        """Return them for people."""
        return (
            f"on {self.device}, batch {self.batch}, precision {self.precision}, torch {self.torch}"
        )


def measure_latency(
    model: nn.Module, example_input: ExampleInput, *, repeats: int = 30, warm_up: int = 5
) -> float:
    """Return the median milliseconds of one forward pass in eval mode, on the model's device."""
    return _passes_of([model], example_input, repeats, warm_up)[0].median


def network_latencies(
    networks: Sequence[nn.Module],
    example_input: ExampleInput,
    *,
    devices: Devices,
    repeats: int = 30,
    warm_up: int = 5,
) -> list[Latency]:
    """Return the latency of one forward pass of a copy of each network, on ``devices``."""
    copies = [ready(copied(network), devices) for network in networks]
    with devices.autocast():
        return _passes_of(copies, example_input, repeats, warm_up)


def conditions_of(devices: Devices, example_input: ExampleInput) -> Conditions:
    """Return the conditions under which latencies are measured here."""
    return Conditions(
        device=_name_of(devices.device),
        batch=batch_size(example_input),
        precision=devices.precision,
        torch=str(torch.__version__),
    )


def _name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text("utf-8", "replace").splitlines() if cpus.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    cpu = names[0] if names else platform.machine()
    return f"{cpu}, {threads} {'thread' if threads == 1 else 'threads'}"


def ready(module: _Module, devices: Devices) -> _Module:
    """Return a module that is ours as it is timed: on the device, in eval mode."""
    devices.move(module).eval()
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_()  # autocast remembers the casts of no others
    return module


def _passes_of(
    models: Sequence[nn.Module], example_input: ExampleInput, repeats: int, warm_up: int
) -> list[Latency]:
    """Return the latency of a forward pass of each model; all are on one device."""
    example = to_device_of(models[0], example_input)
    device = next((p.device for p in models[0].parameters()), torch.device("cpu"))
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(repeatable(model, training=False))
        rounds, rng = [], random.Random(0)
        for _ in range(warm_up + repeats):
            order = rng.sample(range(len(models)), len(models))
            moments = [moment(device)]
            for i in order:
                call(models[i], fresh(example))
                moments.append(moment(device))
            rounds.append((order, moments))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    times: list[list[float]] = [[] for _ in models]
    for order, moments in rounds[warm_up:]:
        for i, pair in zip(order, pairwise(moments), strict=True):
            times[i].append(between(*pair))
    return [Latency.of(each) for each in times]


def moment(device: torch.device) -> Any:
    """Return this moment: in seconds, or as an event that a GPU's stream has yet to come to."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def between(start: Any, end: Any) -> float:
    """Return the milliseconds between two moments."""
    return 1000 * (end - start) if isinstance(start, float) else float(start.elapsed_time(end))
