"""Milliseconds: of a whole model, and of each candidate in each slot, on the device that will run them.

The operations of all slots run in turn, one call each a round, as in a network: what the caches hold of
one is gone when its turn comes again. The median over the rounds is taken, and how far rounds are from
it is told. The latency of an architecture is that of the model plus, over the slots, the chosen
candidate's less the original's.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from refiner.candidates import ORIGINAL
from refiner.conv_spec import ConvSpec
from refiner.inputs import batch_size, call, fresh, to_device_of
from refiner.space import SearchSpace, build_operation
from refiner.surgery import copied
from refiner.trace_check import as_found


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A time and its noise, in milliseconds."""

    median: float
    noise: float
    """Median distance of a round from the median."""


def measure_latency(
    model: nn.Module, example_input: Any, *, repeats: int = 30, warm_up: int = 5
) -> float:
    """Return the median milliseconds of one forward pass in eval mode, on the model's device."""
    example = to_device_of(model, example_input)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def forward() -> None:
        call(model, fresh(example))

    with as_found(model, training=False), torch.inference_mode():
        return _in_turn([forward], device, repeats, warm_up)[0].median


def slot_latencies(
    space: SearchSpace,
    model: nn.Module,
    example_input: Any,
    *,
    device: torch.device,
    repeats: int = 30,
    warm_up: int = 5,
) -> tuple[tuple[Latency, ...], ...]:
    """Return the latency of each candidate of each slot; norms, alike for all, are left out.

    Args:
        space: slots and candidates, of shapes that were found with one sample or more.
        model: the original.
        example_input: its batch size is the one that is timed.
        device: where.
        repeats: rounds that are timed.
        warm_up: rounds before them.
    """
    samples = batch_size(example_input)
    operations: dict[tuple[str, ConvSpec, tuple[int, ...]], nn.Module] = {}
    for slot, names in zip(space.slots, space.candidates, strict=True):
        for site in slot.sites:
            conv = model.get_submodule(site.conv)
            for name in names:
                key = (name, site.spec, site.in_shape[1:])
                if key not in operations:  # slots of one shape are alike
                    made = (
                        copied(conv)
                        if name == ORIGINAL
                        else build_operation(name, conv, site.spec, seed=0)
                    )
                    operations[key] = made.to(device).eval()
    calls: list[Callable[[], Any]] = []
    for (_, _, shape), operation in operations.items():
        weight = next((p for p in operation.parameters()), None)
        dtype = torch.get_default_dtype() if weight is None else weight.dtype
        x = torch.zeros(samples, *shape, device=device, dtype=dtype)
        calls.append(lambda operation=operation, x=x: operation(x))  # type: ignore[misc]
    with torch.inference_mode():
        times = dict(zip(operations, _in_turn(calls, device, repeats, warm_up), strict=True))
    return tuple(
        tuple(
            _sum([times[name, site.spec, site.in_shape[1:]] for site in slot.sites])
            for name in names
        )
        for slot, names in zip(space.slots, space.candidates, strict=True)
    )


def _in_turn(
    calls: Sequence[Callable[[], Any]], device: torch.device, repeats: int, warm_up: int
) -> list[Latency]:
    rounds: list[list[float]] = [[] for _ in calls]
    for i in range(warm_up + repeats):
        for times, run in zip(rounds, calls, strict=True):
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            if i >= warm_up:
                times.append(1000 * (time.perf_counter() - start))
    found = []
    for times in rounds:
        median = statistics.median(times)
        found.append(
            Latency(median=median, noise=statistics.median(abs(t - median) for t in times))
        )
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _sum(parts: Sequence[Latency]) -> Latency:
    return Latency(
        median=sum(part.median for part in parts), noise=sum(part.noise for part in parts)
    )
