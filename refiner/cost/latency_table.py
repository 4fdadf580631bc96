"""The milliseconds of each candidate in each slot, and what they say of an architecture.

The latency of an architecture is predicted as that of the model plus, over the slots, the chosen
candidate's less the original's, times the slot's scale.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from refiner.core.errors import RunError, one_line
from refiner.core.records import checked_record
from refiner.core.types import JsonDict
from refiner.cost.latency import Conditions, Latency
from refiner.space.architecture import Architecture
from refiner.space.candidates import ORIGINAL
from refiner.space.search_space import SearchSpace

_LARGEST = 1e9
"""Beyond it a number of milliseconds, or a scale, is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """An architecture that was timed as a whole network."""

    operations: Mapping[str, str]
    """The candidate of each slot that does not keep its original, by the names of both."""
    share: float
    """Median ratio of its time to the original's, over rounds in which both ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTable:
    """What was measured of a model and of the candidates for its slots, once for a run."""

    conditions: Conditions
    model: Latency
    """Of the original."""
    slots: Mapping[str, Mapping[str, Latency]]
    """Of each candidate of each slot, by their names; with the slot's neighbours."""
    changes: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    """How much longer each takes than the original of its slot: the interval in ms that holds the
    median over the rounds with 95 % confidence. It is left out after too few rounds."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Of a slot, the name of the first one that looks the same, which was timed for both; of a slot
    that is not here its own."""
    anchors: tuple[Anchor, ...] = ()
    scales: Mapping[str, float] = field(default_factory=dict)
    """By how much the changes of a slot count in a whole network; 1 where it is not known."""

    def change(self, slot: str, name: str) -> float:
        """Return how many ms longer a candidate takes than the original among its neighbours."""
        return self.slots[slot][name].median - self.slots[slot][ORIGINAL].median

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
                [self._in_network(slot.name, name) for name in names]
                for slot, names in zip(space.slots, space.candidates, strict=True)
            ]
        except KeyError as error:
            raise RunError(
                f"latency.json has no entry for {error}, so it belongs to another model or other "
                "candidates. Begin a new run."
            ) from error

    def _in_network(self, slot: str, name: str) -> Latency:
        """Return the latency of a candidate, its change to the original's scaled."""
        original, scale = self.slots[slot][ORIGINAL].median, self.scales.get(slot, 1.0)
        noise = self.slots[slot][name].noise
        return Latency(median=original + scale * self.change(slot, name), noise=noise)

    def predicted(self, architecture: Architecture) -> Latency:
        """Return what an architecture of slots and candidates of this table should take."""
        swapped = [
            (self._in_network(slot.name, name), self.slots[slot.name][ORIGINAL])
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
                kinds=dict(document.get("kinds", {})),
                anchors=tuple(Anchor(**each) for each in document.get("anchors", ())),
                scales={slot: float(each) for slot, each in document.get("scales", {}).items()},
            )
            return checked_record(table._bounded(), finite=True)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"latency.json is damaged: {one_line(error)}. Delete it to measure again."
            ) from error

    def _bounded(self) -> "LatencyTable":
        """Return the table; raise a ValueError where a number is none of milliseconds or scales."""
        rows = [each for row in self.slots.values() for each in row.values()]
        numbers = [n for each in (self.model, *rows) for n in (each.median, each.noise)]
        for number in (*numbers, *self.scales.values(), *(a.share for a in self.anchors)):
            if not 0 <= number < _LARGEST:
                raise ValueError(f"a time or scale is {number!r:.40}")
        return self

    def check(self, space: SearchSpace) -> None:
        """Raise a RunError unless the table holds every candidate of a space."""
        for slot, names in zip(space.slots, space.candidates, strict=True):
            missing = [name for name in names if name not in self.slots.get(slot.name, {})]
            if missing:
                raise RunError(
                    f"latency.json does not know {missing[0]} in {slot.name}, so it is damaged or "
                    "of another run. Delete it to measure again."
                )
