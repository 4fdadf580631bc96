"""Milliseconds of a forward pass of a network, on the device and in the runtime that will run it.

Several networks run in turn; see :mod:`refiner.runtimes.timing`. The result is the median over the
rounds, and the median distance from it as noise.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from refiner.core.batches import batch_size
from refiner.core.inputs import ExampleInput, to_device_of
from refiner.graph.trace_check import repeatable
from refiner.runtimes.choice import make_runtime
from refiner.runtimes.eager import run_once
from refiner.runtimes.runtime import Runtime
from refiner.runtimes.timing import COPIES, Patience, timed, timed_networks


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

    runtime: str
    """Its name and version."""
    device: str
    """Name of the GPU, or of the CPU with the number of threads."""
    batch: int
    precision: str

    def __str__(self) -> str:
        """Return them for people."""
        return f"in {self.runtime} on {self.device}, batch {self.batch}, precision {self.precision}"


def conditions_of(runtime: Runtime, example_input: ExampleInput) -> Conditions:
    """Return the conditions under which a runtime measures latencies here."""
    return Conditions(
        runtime=f"{runtime.name} {runtime.version}",
        device=runtime.hardware,
        batch=batch_size(example_input),
        precision=runtime.precision,
    )


def measure_latency(
    model: nn.Module,
    example_input: ExampleInput,
    *,
    runtime: str = "eager",
    threads: int | None = None,
    repeats: int = 30,
    warm_up: int = 5,
) -> float:
    """Return the median milliseconds of one forward pass in eval mode, on the model's device.

    Args:
        model: any module; it is left as it is.
        example_input: a batch, as the model takes it.
        runtime: ``eager``, ``compile``, ``onnxruntime``, ``tensorrt``, ``openvino`` or ``auto``,
            which is onnxruntime on a CPU.
        threads: most CPU threads; by default as many as torch uses.
        repeats: number of timed passes.
        warm_up: number of passes before them.

    Raises:
        ConfigError: an unknown runtime, or one that is not installed.
        ModelError: the runtime cannot hold the model.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    made = make_runtime(runtime, device, threads=threads)
    patience = Patience(repeats=repeats, most=repeats, warm_up=warm_up)
    if made.name == "eager":  # the model itself, which some cannot be copied from
        with repeatable(model, training=False):
            one = partial(run_once, model, to_device_of(model, example_input))
            return Latency.of(timed([one], made, patience)[0]).median
    return Latency.of(timed([made.prepare(model, example_input)], made, patience)[0]).median


def network_latencies(
    networks: Sequence[nn.Module],
    example_input: ExampleInput,
    *,
    runtime: Runtime,
    patience: Patience | None = None,
    copies: int = COPIES,
) -> list[Latency]:
    """Return the latency of one forward pass of each network, the mean of some copies of it.

    Raises:
        ModelError: the runtime cannot hold one of them.
    """
    times = timed_networks(networks, example_input, runtime, patience, copies=copies)
    return list(map(Latency.of, times))
