"""Listeners to a run that do more than show where it is: trackers, and several listeners as one."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from refiner.core.progress import Progress, Silent, Value


@runtime_checkable
class Tracker(Progress, Protocol):
    """A listener that also receives what a run knows over time."""

    def settings(self, values: Mapping[str, str]) -> None:
        """Receive the settings of a run that begins."""

    def epoch(self, phase: str, number: int, values: Mapping[str, float]) -> None:
        """Receive the figures of an epoch that is done; epochs count from 1."""

    def result(self, values: Mapping[str, float]) -> None:
        """Receive the figures of the report; the run is over."""


class _Untracked(Silent):
    """A tracker that keeps nothing."""

    def settings(self, values: Mapping[str, str]) -> None:
        """Keep nothing."""

    def epoch(self, phase: str, number: int, values: Mapping[str, float]) -> None:
        """Keep nothing."""

    def result(self, values: Mapping[str, float]) -> None:
        """Keep nothing."""


def tracker(progress: Progress) -> Tracker:
    """Return the listener where it is a tracker, else one that keeps nothing."""
    return progress if isinstance(progress, Tracker) else _Untracked()


class Listeners:
    """Passes everything on to several listeners, in their order.

    For example ``progress=Listeners(Lines(), TensorBoard("logs"))``.
    """

    def __init__(self, *listeners: Progress) -> None:
        self.listeners = listeners

    def plan(self, stages: Sequence[str]) -> None:
        """Pass on the names of the phases."""
        for each in self.listeners:
            each.plan(stages)

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        """Pass on that a phase starts."""
        for each in self.listeners:
            each.begin(phase, total, done)

    def advance(self, steps: int = 1, **values: Value) -> None:
        """Pass on that steps are done."""
        for each in self.listeners:
            each.advance(steps, **values)

    def end(self) -> None:
        """Pass on that the phase ends."""
        for each in self.listeners:
            each.end()

    def note(self, text: str) -> None:
        """Pass on a line of text."""
        for each in self.listeners:
            each.note(text)

    def settings(self, values: Mapping[str, str]) -> None:
        """Pass settings on to the trackers."""
        for each in self.listeners:
            tracker(each).settings(values)

    def epoch(self, phase: str, number: int, values: Mapping[str, float]) -> None:
        """Pass the figures of an epoch on to the trackers."""
        for each in self.listeners:
            tracker(each).epoch(phase, number, values)

    def result(self, values: Mapping[str, float]) -> None:
        """Pass the figures of the report on to the trackers."""
        for each in self.listeners:
            tracker(each).result(values)
