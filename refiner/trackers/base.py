"""What all trackers share: which figures are kept, and that a failure never ends a run."""

import importlib
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from refiner.core.errors import ConfigError, one_line
from refiner.core.progress import Silent, Value

Figures = Mapping[str, float]


def needed(module: str, extra: str) -> ModuleType:
    """Return a module of an optional package.

    Raises:
        ConfigError: the package is missing or broken.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"logging to {extra} needs a package that cannot be imported "
            f"({one_line(error, 80)}). Install it: pip install 'refiner[{extra}]'."
        ) from error


class BaseTracker(Silent, ABC):
    """A tracker over the methods of an adapter, which need not catch anything.

    It keeps the figures of each epoch and, every ``interval`` seconds, how far a phase is. If the
    adapter fails, the tracker says so in one line and keeps nothing from then on.
    """

    title: str
    """Name of the adapter, for people."""

    def __init__(self, interval: float = 10.0) -> None:
        self.interval = interval
        self._phase, self._done, self._total, self._kept = "", 0, 0, 0.0
        self._open = self._off = False

    @abstractmethod
    def _begin(self, settings: Mapping[str, str]) -> None:
        """Begin a record of a run."""

    @abstractmethod
    def _log(self, group: str, step: int, values: Figures) -> None:
        """Keep figures; each group counts its own steps."""

    @abstractmethod
    def _result(self, values: Figures) -> None:
        """Keep the last figures of the run."""

    @abstractmethod
    def _end(self, finished: bool) -> None:
        """End the record."""

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        """Keep where a phase starts."""
        self._phase, self._total, self._done = phase, total, done
        self._keep_share()

    def advance(self, steps: int = 1, **values: Value) -> None:  # noqa: ARG002
        """Count steps, and keep their share if the last one is ``interval`` seconds old."""
        self._done += steps
        if time.monotonic() - self._kept >= self.interval:
            self._keep_share()

    def end(self) -> None:
        """Keep where the phase ends."""
        self._keep_share()

    def settings(self, values: Mapping[str, str]) -> None:
        """Begin the record of a run."""
        self.close()
        self._open = self._try(self._begin, values)

    def epoch(self, phase: str, number: int, values: Figures) -> None:
        """Keep the figures of an epoch."""
        if not self._open and not self._off:
            self.settings({})
        if self._open:
            self._try(self._log, phase, number, values)

    def result(self, values: Figures) -> None:
        """Keep the figures of the report and end the record."""
        if self._open:
            self._try(self._result, values)
        self.close(finished=True)

    def close(self, *, finished: bool = False) -> None:
        """End the record of a run, if there is one; without a result it counts as failed."""
        if self._open:
            self._open = False
            self._try(self._end, finished)

    def _keep_share(self) -> None:
        if self._open:
            share = self._done / self._total if self._total else 1.0
            self._try(self._log, "progress", self._done, {self._phase: share})
        self._kept = time.monotonic()

    def _try(self, call: Callable[..., None], *given: Any) -> bool:
        """Return whether the adapter did what it should."""
        if self._off:
            return False
        try:
            call(*given)
        except Exception as error:  # a tracker may raise anything: the run goes on
            self._off, self._open = True, False
            line = f"{self.title} failed and is switched off: {one_line(error)}"
            print(line, file=sys.stderr, flush=True)
        return not self._off
