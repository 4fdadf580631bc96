"""The milliseconds of each candidate in each slot, and what they say of an architecture.

Candidates are timed where they stand: in passes of the whole supernet, each round of which has every candidate of
every slot on its path once and one pass of the model itself. So the data is what a network gives, the caches hold what
they hold then, and the layout and the precision are the network's. (An operation by itself may be far
off: on zeros a maximum is found twice as fast.)

The latency of an architecture is predicted as that of the model plus, over the slots, the chosen
candidate's less the original's.
"""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from refiner.architecture import Architecture
from refiner.candidates import ORIGINAL
from refiner.devices import Devices
from refiner.errors import RunError, one_line
from refiner.inputs import call, fresh, to_device_of
from refiner.latency import Conditions, Latency, between, conditions_of, moment, ready
from refiner.space import SearchSpace
from refiner.supernet import Supernet
from refiner.surgery import copied
from refiner.trace_check import as_found


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


def latency_table(
    space: SearchSpace,
    model: nn.Module,
    example_input: Any,
    *,
    devices: Devices,
    repeats: int = 15,
    warm_up: int = 3,
) -> LatencyTable:
    """Measure a model and the candidates for its slots.

    A slot's time is that of its convs and of the norms after them; what else stands between the convs of a chain
    is left out.

    Args:
        space: slots and candidates.
        model: the original; it is left as it is.
        example_input: its batch size is the one that is timed.
        devices: where, and in which precision.
        repeats: rounds that are timed.
        warm_up: rounds before them.
    """
    plain = ready(copied(model), devices)
    supernet = ready(Supernet(model, space), devices)
    watch = _Watch(supernet, devices.device)
    example = to_device_of(plain, example_input)
    whole: list[_Span] = []
    taken: dict[tuple[int, int], list[list[_Span]]] = defaultdict(list)
    with ExitStack() as stack:
        for network in (plain, supernet.model):
            stack.enter_context(as_found(network, training=False))
        stack.enter_context(devices.autocast())
        for done in range(warm_up + repeats):
            if done == warm_up:
                whole.clear()
                taken.clear()
            start = moment(devices.device)
            call(plain, fresh(example))
            whole.append((start, moment(devices.device)))
            for shift in range(max(map(len, space.candidates), default=0)):
                supernet.select(tuple((shift + s) % len(c) for s, c in enumerate(space.candidates)))
                call(supernet.model, fresh(example))
                for place, spans in zip(enumerate(supernet.vector), watch.taken(), strict=True):
                    taken[place].append(spans)
    if devices.device.type == "cuda":
        torch.cuda.synchronize(devices.device)

    def latency(rounds: list[list[_Span]]) -> Latency:
        return Latency.of([sum(between(*span) for span in spans) for spans in rounds])

    return LatencyTable(
        conditions=conditions_of(devices, example_input),
        model=latency([[span] for span in whole]),
        slots={
            slot.name: {name: latency(taken[s, k]) for k, name in enumerate(names)}
            for s, (slot, names) in enumerate(zip(space.slots, space.candidates, strict=True))
        },
    )


_Span = tuple[Any, Any]
"""The moments when a call began and ended."""


class _Watch:
    """Takes the moments at which the mixed operations of each slot begin and end."""

    def __init__(self, supernet: Supernet, device: torch.device) -> None:
        self.device = device
        self.spans: list[list[_Span]] = [[] for _ in supernet.space.slots]
        self.began: Any = None
        for s, slot in enumerate(supernet.space.slots):
            for site in slot.sites:
                for name in filter(None, (site.conv, site.norm)):
                    mixed = supernet.mixed(name)
                    mixed.register_forward_pre_hook(self._begin)
                    mixed.register_forward_hook(partial(self._end, s))

    def _begin(self, *_: Any) -> None:
        self.began = moment(self.device)

    def _end(self, slot: int, *_: Any) -> None:
        self.spans[slot].append((self.began, moment(self.device)))

    def taken(self) -> list[list[_Span]]:
        """Return the spans of each slot since the last time."""
        spans, self.spans = self.spans, [[] for _ in self.spans]
        return spans
