"""How a long run reports where it is, and the listener that writes it as plain lines."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TextIO

from refiner.core.printable import printable

Value = float | str

UNKNOWN = "--"
"""Stands for a duration that cannot be estimated yet."""


class Progress(Protocol):
    """Listens to the phases of a run; one phase runs at a time."""

    def plan(self, stages: Sequence[str]) -> None:
        """Learn the names of the phases of the whole run, in order, before the first one begins."""

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        """Start a phase of ``total`` steps; an earlier process took ``done`` of them."""

    def advance(self, steps: int = 1, **values: Value) -> None:
        """Count steps that are done; ``values`` are worth watching, a loss for example."""

    def end(self) -> None:
        """End the phase."""

    def note(self, text: str) -> None:
        """Show one line of text."""


class Silent:
    """A listener that writes nothing."""

    def plan(self, stages: Sequence[str]) -> None:
        """Write nothing."""

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        """Write nothing."""

    def advance(self, steps: int = 1, **values: Value) -> None:
        """Write nothing."""

    def end(self) -> None:
        """Write nothing."""

    def note(self, text: str) -> None:
        """Write nothing."""


class Clock:
    """Knows how far a run is and how long the rest takes; a listener shows what it says.

    Phases whose names begin with the same word, such as ``train original`` and ``train refined``,
    count as equally long. A phase that is not in the plan has no number.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.stages: tuple[str, ...] = ()
        self.stage: int | None = None
        self.phase = ""
        self.total = self.done = self.first = 0
        self.started = self.moved = 0.0
        self.values: dict[str, Value] = {}
        self._lengths: dict[str, float] = {}
        self._next = 0

    def plan(self, stages: Sequence[str]) -> None:
        """Take the names of all phases of a run, in order; a second plan starts afresh."""
        self.stages, self.stage, self._next = tuple(stages), None, 0
        self._lengths = {}

    def begin(self, phase: str, total: int, done: int) -> None:
        """Start a phase; the phases before it in the plan count as done."""
        later = self.stages[self._next :]
        self.stage = self._next + later.index(phase) if phase in later else None
        if self.stage is not None:
            self._next = self.stage + 1
        self.phase, self.total, self.done, self.first = phase, total, done, done
        self.started = self.moved = self.now()
        self.values = {}

    def advance(self, steps: int, values: Mapping[str, Value]) -> None:
        """Count steps. An architecture vector is not kept: the log has it, and no line has room."""
        self.done += steps
        if steps:
            self.moved = self.now()
        self.values |= {name: value for name, value in values.items() if name != "vector"}

    def end(self) -> None:
        """End the phase and remember how long all of its steps would take."""
        if self.done > self.first:
            length = self.took() / (self.done - self.first) * self.total
            self._lengths[_kind(self.phase)] = length

    def number(self) -> str:
        """Return the number of the phase in the plan, ``[3/7]``, or an empty text."""
        count = str(len(self.stages))
        return "" if self.stage is None else f"[{self.stage + 1:>{len(count)}}/{count}]"

    def count(self) -> str:
        """Return the steps done of all: ``120/750``."""
        return f"{self.done}/{self.total}"

    def share(self) -> str:
        """Return the share of the steps that are done, rounded down: ``16 %``."""
        return f"{100 * self.done // self.total if self.total else 100} %"

    def took(self) -> float:
        """Return the seconds since the phase began."""
        return self.now() - self.started

    def phase_left(self) -> str:
        """Return the time left of the phase, by the speed of its steps so far."""
        left = self._seconds_left()
        return UNKNOWN if left is None else seconds(left)

    def run_left(self) -> str:
        """Return the time left of the whole run, as ``9:59``, ``>9:59`` or ``--``.

        A phase to come has the length of the last one of its kind. Where no such phase has run, its
        time is left out and ``>`` says so: the run takes longer than the rest of what is known.
        """
        left = self._seconds_left()
        if self.stage is None or left is None:
            return UNKNOWN
        lengths = self._lengths
        if self.done > self.first:
            so_far = (self.moved - self.started) / (self.done - self.first) * self.total
            lengths = {**lengths, _kind(self.phase): so_far}
        to_come = [lengths.get(_kind(name)) for name in self.stages[self.stage + 1 :]]
        known = [length for length in to_come if length is not None]
        return (">" if len(known) < len(to_come) else "") + seconds(left + sum(known))

    def _seconds_left(self) -> float | None:
        if self.done >= self.total:
            return 0.0
        if self.done <= self.first:
            return None
        each = (self.moved - self.started) / (self.done - self.first)
        return max(each * (self.total - self.done) - (self.now() - self.moved), 0.0)


class Lines:
    """Writes plain lines: at most one every ``interval`` seconds, and one as a phase ends."""

    def __init__(self, stream: TextIO | None = None, interval: float = 10.0) -> None:
        self.stream = stream or sys.stderr
        self.interval = interval
        self.clock = Clock()
        self.written = 0.0

    def plan(self, stages: Sequence[str]) -> None:
        """Number the phases to come."""
        self.clock.plan(stages)

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        """Start a phase."""
        self.clock.begin(phase, total, done)
        self.written = self.clock.now()

    def advance(self, steps: int = 1, **values: Value) -> None:
        """Count steps, and write a line if the last one is ``interval`` seconds old."""
        self.clock.advance(steps, values)
        now = self.clock.now()
        if now - self.written >= self.interval and self.clock.done < self.clock.total:
            self._write(time_left(self.clock))
            self.written = now

    def end(self) -> None:
        """Write the last line of the phase."""
        self.clock.end()
        self._write(f"took {seconds(self.clock.took())}")

    def note(self, text: str) -> None:
        """Write a line."""
        print(printable(text), file=self.stream, flush=True)

    def _write(self, when: str) -> None:
        clock = self.clock
        name = f"{clock.number()} {clock.phase}".strip()
        self.note(
            "  ".join([name, clock.count(), clock.share(), when, shown(clock.values)]).rstrip()
        )


def time_left(clock: Clock) -> str:
    """Return the time left of the phase and, where there is a plan, of the run."""
    left = f"left {clock.phase_left()}"
    return left if clock.stage is None else f"{left}, run {clock.run_left()}"


def shown(values: Mapping[str, Value]) -> str:
    """Return values as ``name value`` pairs, numbers to four digits."""
    parts = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
    return "  ".join(parts)


def seconds(value: float) -> str:
    """Return a duration as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _kind(phase: str) -> str:
    return phase.split(" ")[0]
