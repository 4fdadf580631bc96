"""The milliseconds of each candidate in each slot, and what they say of an architecture.

Candidates are timed inside passes of the whole supernet. Each round selects every candidate of
every slot at least once, and also times a pass of the model itself. The layers after a slot always
receive the original's output. So data, layout, precision and caches are those of the real network.
An operation timed by itself can be far off: on zeros, max pooling takes half the time.

The latency of an architecture is predicted as that of the model plus, over the slots, the chosen
candidate's less the original's.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import mean
from typing import Any

import torch
from torch import nn

from refiner.core.errors import RunError, one_line
from refiner.core.inputs import ExampleInput, call, fresh, to_device_of
from refiner.core.records import checked_record
from refiner.core.surgery import copied
from refiner.core.types import JsonDict
from refiner.cost.confidence import median_interval
from refiner.cost.latency import Conditions, Latency, between, conditions_of, moment, ready
from refiner.graph.trace_check import repeatable
from refiner.space.architecture import Architecture
from refiner.space.candidates import ORIGINAL
from refiner.space.search_space import SearchSpace
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTable:
    """What was measured of a model and of the candidates for its slots, once for a run."""

    conditions: Conditions
    model: Latency
    """Of the original."""
    slots: Mapping[str, Mapping[str, Latency]]
    """Of each candidate of each slot, by their names."""
    changes: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    """How much longer each takes than the original of its slot: the interval in ms that holds the
    median over the rounds with 95 % confidence. It is left out after too few rounds."""

    def slower(self, slot: str, name: str) -> bool:
        """Return whether a candidate is slower than the original beyond the noise.

        Without an interval, the two medians have to be further apart than their noise.
        """
        interval = self.changes.get(slot, {}).get(name)
        if interval is not None:
            return interval[0] > 0
        new, old = self.slots[slot][name], self.slots[slot][ORIGINAL]
        return new.median - new.noise > old.median + old.noise

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
                f"latency.json has no entry for {error}, so it belongs to another model or other "
                "candidates. Begin a new run."
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

    def to_json(self) -> JsonDict:
        """Return the table as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "LatencyTable":
        """Return the table that :meth:`to_json` gave.

        Raises:
            RunError: the document is none.
        """
        try:
            table = cls(
                conditions=Conditions(**document["conditions"]),
                model=Latency(**document["model"]),
                slots={
                    slot: {name: Latency(**each) for name, each in row.items()}
                    for slot, row in document["slots"].items()
                },
                changes={
                    slot: {name: (float(low), float(high)) for name, (low, high) in row.items()}
                    for slot, row in document.get("changes", {}).items()
                },
            )
            return checked_record(table, finite=True)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"latency.json is damaged: {one_line(error)}. Delete it to measure again."
            ) from error

    def check(self, space: SearchSpace) -> None:
        """Raise a RunError unless the table holds every candidate of a space."""
        for slot, names in zip(space.slots, space.candidates, strict=True):
            missing = [name for name in names if name not in self.slots.get(slot.name, {})]
            if missing:
                raise RunError(
                    f"latency.json does not know {missing[0]} in {slot.name}, so it is damaged or "
                    "of another run. Delete it to measure again."
                )


def latency_table(
    space: SearchSpace,
    model: nn.Module,
    example_input: ExampleInput,
    *,
    devices: Devices,
    repeats: int = 15,
    warm_up: int = 3,
) -> LatencyTable:
    """Measure a model and the candidates for its slots.

    A slot's time is that of its convs and of the norms after them. The other layers between the
    convs of a group are left out, so channel pruning saves more time than the table says.

    Args:
        space: slots and candidates.
        model: the original; it is left as it is.
        example_input: the timed batch, with real values: some operations are faster on zeros.
        devices: where, and in which precision.
        repeats: number of timed rounds, after ``warm_up`` others.
    """
    plain = ready(copied(model), devices)
    supernet = ready(Supernet(model, space), devices)
    watch = _Watch(supernet, devices.device)
    example = to_device_of(plain, example_input)
    whole: list[float] = []
    rounds: list[dict[tuple[int, int], list[float]]] = []
    with ExitStack() as stack:
        for network in (plain, supernet.model):
            stack.enter_context(repeatable(network, training=False))
        stack.enter_context(devices.autocast())
        call(supernet.model, fresh(example))  # the original's outputs are kept
        watch.take()
        for turn in range(warm_up + repeats):
            start = moment(devices.device)
            call(plain, fresh(example))
            end = moment(devices.device)
            passes = []
            for shift in range(max(map(len, space.candidates), default=0)):
                supernet.select(
                    tuple((shift + s) % len(names) for s, names in enumerate(space.candidates))
                )
                call(supernet.model, fresh(example))
                passes.append((supernet.vector, watch.take()))
            if devices.device.type == "cuda":
                torch.cuda.synchronize(devices.device)
            if turn < warm_up:
                continue
            whole.append(between(start, end))
            times: dict[tuple[int, int], list[float]] = defaultdict(list)
            for vector, spans in passes:
                for place, each in zip(enumerate(vector), spans, strict=True):
                    times[place].append(sum(between(*span) for span in each))
            rounds.append(times)
    return LatencyTable(
        conditions=conditions_of(devices, example_input),
        model=Latency.of(whole),
        slots={
            slot.name: {
                name: Latency.of([time for times in rounds for time in times[s, k]])
                for k, name in enumerate(names)
            }
            for s, (slot, names) in enumerate(zip(space.slots, space.candidates, strict=True))
        },
        changes=_changes(space, rounds),
    )


def _changes(
    space: SearchSpace, rounds: Sequence[Mapping[tuple[int, int], Sequence[float]]]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the interval of each candidate's change, from its pairs with the original."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for s, (slot, names) in enumerate(zip(space.slots, space.candidates, strict=True)):
        found[slot.name] = {}
        for k, name in enumerate(names[1:], start=1):
            pairs = [mean(times[s, k]) - mean(times[s, 0]) for times in rounds]
            if interval := median_interval(pairs):
                found[slot.name][name] = interval
    return found


_Span = tuple[Any, Any]
"""The moments when a call began and ended."""


class _Watch:
    """Takes the moments at which the mixed operations of each slot begin and end.

    The first pass has to be the original's. Every later pass returns the outputs of the slots from
    that pass.
    """

    def __init__(self, supernet: Supernet, device: torch.device) -> None:
        self.device = device
        self.spans: list[list[_Span]] = [[] for _ in supernet.space.slots]
        self.given: dict[int, torch.Tensor] = {}
        self.began: Any = None
        for s, slot in enumerate(supernet.space.slots):
            names = [name for site in slot.sites for name in (site.conv, site.norm) if name]
            for name in names:
                mixed = supernet.mixed(name)
                mixed.register_forward_pre_hook(self._begin)
                mixed.register_forward_hook(partial(self._end, s, name == names[-1]))

    def _begin(self, *_: Any) -> None:
        self.began = moment(self.device)

    def _end(
        self, slot: int, last: bool, _module: nn.Module, _args: Any, output: torch.Tensor
    ) -> torch.Tensor:
        self.spans[slot].append((self.began, moment(self.device)))
        if not last:
            return output
        if slot not in self.given:
            self.given[slot] = output.clone()
        return self.given[slot].clone()  # the network may write into it

    def take(self) -> list[list[_Span]]:
        """Return the spans of each slot since the last time."""
        spans, self.spans = self.spans, [[] for _ in self.spans]
        return spans
