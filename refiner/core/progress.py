"""What a long phase tells while it runs, and the listener that writes it as plain lines."""

import sys
import time
from collections.abc import Mapping
from typing import Protocol, TextIO

Value = float | str


class Progress(Protocol):
    """Is told of each long phase as it goes; one phase runs at a time."""

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        """A phase of ``total`` steps starts, ``done`` of them done in an earlier process."""

    def advance(self, steps: int = 1, **values: Value) -> None:
        """Steps are done; ``values`` are what there is to watch now."""

    def end(self) -> None:
        """The phase is over."""

    def note(self, text: str) -> None:
        """Say one line."""


class Silent:
    """A listener that writes nothing."""

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        """Write nothing."""

    def advance(self, steps: int = 1, **values: Value) -> None:
        """Write nothing."""

    def end(self) -> None:
        """Write nothing."""

    def note(self, text: str) -> None:
        """Write nothing."""


class Lines:
    """Writes plain lines, at most one in ``interval`` seconds a phase, with the time left."""

    def __init__(self, stream: TextIO | None = None, interval: float = 10.0) -> None:
        self.stream = stream or sys.stderr
        self.interval = interval
        self.phase = ""
        self.total = self.done = self.first = 0
        self.started = self.written = 0.0
        self.values: dict[str, Value] = {}

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        """Start a phase."""
        self.phase, self.total, self.done, self.first = phase, total, done, done
        self.started = self.written = time.monotonic()
        self.values = {}

    def advance(self, steps: int = 1, **values: Value) -> None:
        """Count steps, and write a line where the last is long enough ago."""
        self.done += steps
        self.values.update(values)
        now = time.monotonic()
        if now - self.written >= self.interval and self.done < self.total:
            left = (now - self.started) / max(self.done - self.first, 1) * (self.total - self.done)
            self._write(f"{seconds(left)} left")
            self.written = now

    def end(self) -> None:
        """Write the phase's last line."""
        self._write(f"took {seconds(time.monotonic() - self.started)}")

    def note(self, text: str) -> None:
        """Write a line."""
        print(text, file=self.stream, flush=True)

    def _write(self, when: str) -> None:
        share = f"{self.done}/{self.total}"
        self.note("  ".join([self.phase, share, when, shown(self.values)]).rstrip())


def shown(values: Mapping[str, Value]) -> str:
    """Return values as ``name value`` pairs, numbers to four digits."""
    parts = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
    return "  ".join(parts)


def seconds(value: float) -> str:
    """Return a duration as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
