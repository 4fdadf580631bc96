"""Progress in a notebook: one line with a bar for each phase, drawn again in its place."""

import html
import sys
import time
from collections.abc import Sequence
from typing import Any

from refiner.core.printable import printable
from refiner.core.progress import Clock, Value, seconds, shown, time_left


def in_notebook() -> bool:
    """Return whether the code runs in a cell of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


class NotebookBars:
    """Draws the phase that runs, at most every ``interval`` seconds, and leaves its last line."""

    def __init__(self, interval: float = 0.5) -> None:
        self.interval = interval
        self.clock = Clock()
        self._handle: Any = None
        self._drawn = 0.0

    def plan(self, stages: Sequence[str]) -> None:
        """Number the phases to come."""
        self.clock.plan(stages)

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        """Draw a new line."""
        self.clock.begin(phase, total, done)
        self._handle = None
        self._draw(time_left(self.clock))

    def advance(self, steps: int = 1, **values: Value) -> None:
        """Count steps, and draw the line again if it is ``interval`` seconds old."""
        self.clock.advance(steps, values)
        if time.monotonic() - self._drawn >= self.interval:
            self._draw(time_left(self.clock))

    def end(self) -> None:
        """Draw the line for the last time."""
        self.clock.end()
        self._draw(f"took {seconds(self.clock.took())}")

    def note(self, text: str) -> None:
        """Write a line below."""
        print(printable(text), file=sys.stderr, flush=True)

    def _draw(self, when: str) -> None:
        from IPython.display import display

        clock = self.clock
        name = f"{clock.number()} {clock.phase}".strip()
        facts = "  ".join([clock.count(), clock.share(), when, shown(clock.values)]).rstrip()
        bar = f'<progress value="{clock.done}" max="{max(clock.total, 1)}"></progress>'
        line = {
            "text/plain": printable(f"{name}  {facts}"),
            "text/html": f"<code>{html.escape(name)} {bar} {html.escape(facts)}</code>",
        }
        if self._handle is None:
            self._handle = display(line, raw=True, display_id=True)
        else:
            self._handle.update(line, raw=True)
        self._drawn = time.monotonic()
