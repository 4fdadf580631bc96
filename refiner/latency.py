"""Milliseconds: of a whole model, and of each candidate in each slot, on the device that will run them.

The operations of all slots run in turn, one call each a round, as in a network: what the caches hold of
one is gone when its turn comes again. The median over the rounds is taken, and how far rounds are from
it is told. A GPU is waited for once, after all rounds: events in its stream tell when each call began
and ended, so that no call pays for the wait. Where the precision is bf16 the calls run under autocast,
which casts the weights once, in the rounds that are not timed (in torch's inference mode it would cast them
in each call).

The latency of an architecture is predicted as that of the model plus, over the slots, the chosen
candidate's less the original's.
"""

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from refiner.architecture import Architecture
from refiner.candidates import ORIGINAL
from refiner.conv_spec import ConvSpec
from refiner.devices import Devices
from refiner.errors import RunError, one_line
from refiner.filling import fill, filling
from refiner.inputs import batch_size, call, fresh, to_device_of
from refiner.slots import Slot
from refiner.space import SearchSpace
from refiner.surgery import copied
from refiner.trace_check import as_found


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A time and its noise, in milliseconds."""

    median: float
    noise: float
    """Median distance of a round from the median; of a sum, the sum of its parts'."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTable:
    """What was measured of a model and of the candidates for its slots, once for a run."""

    conditions: Conditions
    model: Latency
    """Of the original."""
    slots: Mapping[str, Mapping[str, Latency]]
    """Of each candidate of each slot, by their names."""

    def rows(self, space: SearchSpace) -> list[list[Latency]]:
        """Return the latency of each candidate of each slot, in the order of ``space``.

        Raises:
            RunError: the table was made of another space.
        """
        try:
            return [
                [self.slots[slot.name][name] for name in names]
                for slot, names in zip(space.slots, space.candidates, strict=True)
            ]
        except KeyError as error:
            raise RunError(
                f"latency.json tells nothing of {error}, so it is of another model or other candidates. "
                "Begin a new run."
            ) from error

    def predicted(self, architecture: Architecture) -> Latency:
        """Return what an architecture of slots and candidates of this table should take."""
        swapped = [
            (self.slots[slot.name][name], self.slots[slot.name][ORIGINAL])
            for slot, name in zip(architecture.slots, architecture.operations, strict=True)
            if name != ORIGINAL
        ]
        return Latency(
            median=self.model.median + sum(new.median - old.median for new, old in swapped),
            noise=self.model.noise + sum(new.noise + old.noise for new, old in swapped),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "LatencyTable":
        """Return the table that :meth:`to_json` gave.

        Raises:
            RunError: the document is none.
        """
        try:
            return cls(
                conditions=Conditions(**document["conditions"]),
                model=Latency(**document["model"]),
                slots={
                    slot: {name: Latency(**each) for name, each in row.items()}
                    for slot, row in document["slots"].items()
                },
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise RunError(f"latency.json is damaged: {one_line(error)}") from error


def measure_latency(
    model: nn.Module, example_input: Any, *, repeats: int = 30, warm_up: int = 5
) -> float:
    """Return the median milliseconds of one forward pass in eval mode, on the model's device."""
    return _passes_of([model], example_input, repeats, warm_up)[0].median


def network_latencies(
    networks: Sequence[nn.Module],
    example_input: Any,
    *,
    devices: Devices,
    repeats: int = 30,
    warm_up: int = 5,
) -> list[Latency]:
    """Return the latency of one forward pass of a copy of each network on the devices, in their precision.

    They run in turn, so that what slows the machine down for a while slows all of them.
    """
    ready = [_ready(copied(network), devices) for network in networks]
    with devices.autocast():
        return _passes_of(ready, example_input, repeats, warm_up)


def slot_latencies(
    space: SearchSpace,
    model: nn.Module,
    example_input: Any,
    *,
    devices: Devices,
    repeats: int = 30,
    warm_up: int = 5,
) -> tuple[tuple[Latency, ...], ...]:
    """Return the latency of each candidate of each slot; norms and activations are left out.

    These are alike for all but a narrowing, which makes them cheaper than is told.

    Args:
        space: slots and candidates, of shapes that were found with one sample or more.
        model: the original.
        example_input: its batch size is the one that is timed.
        devices: where, and in which precision.
        repeats: rounds that are timed.
        warm_up: rounds before them.
    """
    samples = batch_size(example_input)
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    calls: dict[_Timed, Callable[[], Any]] = {}
    rows = []
    for slot, names in zip(space.slots, space.candidates, strict=True):
        rows.append([_timed(slot, name) for name in names])
        for name, keys in zip(names, rows[-1], strict=True):
            made = fill(slot, name, modules, lambda _: 0) if set(keys) - set(calls) else {}
            for site, key in zip(slot.sites, keys, strict=True):
                if key not in calls:  # slots of one shape are alike
                    module = made[site.conv] if site.conv in made else copied(modules[site.conv])
                    x = _input_of(modules[site.conv], (samples, *key[2]), devices)
                    calls[key] = partial(_ready(module, devices), x)
    with torch.no_grad(), devices.autocast():
        found = _in_turn(list(calls.values()), devices.device, repeats, warm_up)
    times = dict(zip(calls, found, strict=True))
    return tuple(tuple(_sum([times[key] for key in keys]) for keys in row) for row in rows)


_Timed: TypeAlias = tuple[str, ConvSpec, tuple[int, ...]]
"""What is timed once: an operation in the place of a conv, which may be narrower, on an input of a shape."""


def _timed(slot: Slot, name: str) -> list[_Timed]:
    filled = filling(slot, name)
    return [
        (operation, site.spec, site.in_shape[1:])
        for operation, site in zip(filled.operations, filled.sites, strict=True)
    ]


def latency_table(
    space: SearchSpace, model: nn.Module, example_input: Any, *, devices: Devices
) -> LatencyTable:
    """Measure a model and the candidates for its slots."""
    rows = slot_latencies(space, model, example_input, devices=devices)
    return LatencyTable(
        conditions=conditions_of(devices, example_input),
        model=network_latencies([model], example_input, devices=devices)[0],
        slots={
            slot.name: dict(zip(names, row, strict=True))
            for slot, names, row in zip(space.slots, space.candidates, rows, strict=True)
        },
    )


def conditions_of(devices: Devices, example_input: Any) -> Conditions:
    """Return the conditions under which latencies are measured here."""
    return Conditions(
        device=_name_of(devices.device),
        batch=batch_size(example_input),
        precision=devices.precision,
        torch=torch.__version__,
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


def _ready(module: nn.Module, devices: Devices) -> nn.Module:
    """Return a module that is ours as it is timed: on the device, in eval mode."""
    devices.move(module).eval()
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_()  # autocast remembers the casts of no others
    return module


def _input_of(conv: nn.Module, shape: tuple[int, ...], devices: Devices) -> torch.Tensor:
    """Return zeros of the type and layout in which the operation before ``conv`` would give them."""
    weight = conv.weight
    assert isinstance(weight, torch.Tensor)
    dtype = torch.bfloat16 if devices.precision == "bf16" else weight.dtype
    return devices.laid_out(torch.zeros(shape, dtype=dtype))


def _passes_of(
    models: Sequence[nn.Module], example_input: Any, repeats: int, warm_up: int
) -> list[Latency]:
    """Return the latency of a forward pass of each model; all are on one device."""
    example = to_device_of(models[0], example_input)
    device = next((p.device for p in models[0].parameters()), torch.device("cpu"))
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(as_found(model, training=False))
        calls = [partial(_forward, model, example) for model in models]
        return _in_turn(calls, device, repeats, warm_up)


def _forward(model: nn.Module, example: Any) -> None:
    call(model, fresh(example))


def _in_turn(
    calls: Sequence[Callable[[], Any]], device: torch.device, repeats: int, warm_up: int
) -> list[Latency]:
    """Return the latency of each of several calls."""
    rounds = []
    for _ in range(warm_up + repeats):
        moments = [_moment(device)]
        for run in calls:
            run()
            moments.append(_moment(device))
        rounds.append(moments)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    timed = [[_between(*pair) for pair in pairwise(moments)] for moments in rounds[warm_up:]]
    return [_latency(times) for times in zip(*timed, strict=True)]


def _moment(device: torch.device) -> Any:
    """Return this moment: in seconds, or as an event that a GPU's stream has yet to come to."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _between(start: Any, end: Any) -> float:
    """Return the milliseconds between two moments."""
    return 1000 * (end - start) if isinstance(start, float) else float(start.elapsed_time(end))


def _latency(times: Sequence[float]) -> Latency:
    median = statistics.median(times)
    return Latency(median=median, noise=statistics.median(abs(t - median) for t in times))


def _sum(parts: Sequence[Latency]) -> Latency:
    return Latency(
        median=sum(part.median for part in parts), noise=sum(part.noise for part in parts)
    )
