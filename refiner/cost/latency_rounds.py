"""Time each candidate in its slot, in rounds.

Candidates are timed inside passes of the whole supernet. Each round selects every candidate of
every slot at least once, and also times a pass of the model itself. The layers after a slot always
receive the original's output. So data, layout, precision and caches are those of the real network.
An operation timed by itself can be far off: on zeros, max pooling takes half the time.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from statistics import mean
from typing import Any, TypeAlias

import torch
from torch import nn

from refiner.core.inputs import ExampleInput, call, fresh, to_device_of
from refiner.core.surgery import copied
from refiner.cost.confidence import median_interval
from refiner.cost.latency import Latency, between, conditions_of, moment, ready
from refiner.cost.latency_table import LatencyTable
from refiner.graph.trace_check import repeatable
from refiner.space.search_space import SearchSpace
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices

_Round: TypeAlias = dict[tuple[int, int], list[float]]
"""Milliseconds of each pass in a round, by slot and candidate."""


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
    rounds: list[_Round] = []
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
            times = _round(supernet, watch, example)
            if turn >= warm_up:
                whole.append(between(start, end))
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


def _round(supernet: Supernet, watch: "_Watch", example: ExampleInput) -> _Round:
    """Time passes in which every candidate of every slot is selected at least once."""
    choices, passes = supernet.space.candidates, []
    for shift in range(max(map(len, choices), default=0)):
        supernet.select(tuple((shift + s) % len(names) for s, names in enumerate(choices)))
        call(supernet.model, fresh(example))
        passes.append((supernet.vector, watch.take()))
    if watch.device.type == "cuda":
        torch.cuda.synchronize(watch.device)
    times: _Round = defaultdict(list)
    for vector, spans in passes:
        for place, each in zip(enumerate(vector), spans, strict=True):
            times[place].append(sum(between(*span) for span in each))
    return times


def _changes(
    space: SearchSpace, rounds: Sequence[_Round]
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
