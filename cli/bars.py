"""Progress on a terminal: one line per phase, never wider than the terminal."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from refiner.core.printable import printable
from refiner.core.progress import Clock, Value, seconds, shown, time_left

_BAR, _WIDE_BAR, _LEAST_BAR = 10, 20, 4
_WIDE = 100
"""Columns from which the bar is the wide one."""
_LEAST_WATCH = 8
"""Characters below which there is no room for values."""
_GAP = "  "


class Bars:
    """Draws the phase that runs and leaves a line for each phase that has ended."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.clock = Clock()
        self._live: Live | None = None

    def plan(self, stages: Sequence[str]) -> None:
        """Number the phases to come."""
        self.clock.plan(stages)

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        """Start to draw a phase."""
        self.close()
        self.clock.begin(phase, total, done)
        self._live = Live(
            get_renderable=self._line,
            console=self.console,
            transient=True,
            # Output that is piped elsewhere must not turn up on the terminal.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._live.start()

    def advance(self, steps: int = 1, **values: Value) -> None:
        """Count steps; the line is drawn again by itself."""
        self.clock.advance(steps, values)

    def end(self) -> None:
        """Leave the last line of the phase."""
        self.clock.end()
        self._stop(took=seconds(self.clock.took()))

    def note(self, text: str) -> None:
        """Print a text above the line, wrapped between words."""
        self.console.print(Text(printable(text), overflow="ignore"), crop=False)

    def close(self) -> None:
        """Give the terminal back; a phase that has not ended leaves its line as it is."""
        self._stop(took=None)

    def _stop(self, took: str | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self.console.print(self._line(took), crop=False)

    def _line(self, took: str | None = None) -> Text:
        options = self.console.options
        return progress_line(self.clock, options.max_width, took, ascii_only=options.ascii_only)


def progress_line(
    clock: Clock, width: int, took: str | None = None, *, ascii_only: bool = False
) -> Text:
    """Return the line of a phase, at most ``width`` characters long.

    The count, the share and the time left are always whole. What gives way to them is, in this
    order: the values to watch, the bar, the name of the phase.

    Args:
        clock: what to show.
        width: of the terminal, in characters.
        took: duration of a phase that has ended.
        ascii_only: draw with ASCII characters.
    """
    dots = "..." if ascii_only else "…"
    name = f"{clock.number()} {clock.phase}".strip()
    count = clock.count().rjust(2 * len(str(clock.total)) + 1)
    when = time_left(clock) if took is None else f"took {took}"
    facts = _GAP.join((count, f"{clock.share():>5}", when))
    if len(facts) + len(clock.number()) + len(_GAP) > width:  # below any usual terminal
        facts = _GAP.join((clock.count(), clock.share(), when.partition(",")[0]))
    longest = max(map(len, clock.stages), default=0) + len(clock.number()) + 1
    room = width - len(facts) - len(_GAP)
    name = _cut(name if room < longest else name.ljust(longest), room, dots)
    line = Text(name, style="bold", no_wrap=True, overflow="crop")
    room -= len(name) + len(_GAP)
    bar = min(_WIDE_BAR if width >= _WIDE else _BAR, room)
    if bar >= _LEAST_BAR:
        done = bar * min(clock.done, clock.total) // clock.total if clock.total else bar
        full, empty = ("#", "-") if ascii_only else ("━", "─")
        line.append(_GAP).append(full * done, "not bold green")
        line.append(empty * (bar - done), "not bold dim")
        room -= bar + len(_GAP)
    line.append((_GAP if name else "") + facts, "not bold")
    watch = shown(clock.values)
    if watch and room >= min(len(watch), _LEAST_WATCH):
        line.append(_GAP + _cut(watch, room, dots), "not bold cyan")
    return line


def _cut(text: str, width: int, dots: str) -> str:
    """Return the text, with an ellipsis at its end if it is wider than ``width``."""
    if len(text) <= width:
        return text
    return (text[: max(width - len(dots), 0)].rstrip() + dots) if width > len(dots) else ""
