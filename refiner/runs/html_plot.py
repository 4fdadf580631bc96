"""Plots of the HTML report as positions: the template draws what these records hold.

Positions are percentages of the plot's width and height, from its upper left corner. So a plot
fills any width, and its text keeps its size.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_LARGEST = 1e15
"""Beyond it a number is not drawn."""
_MARGIN = 0.06
"""Space on both sides of the numbers, as a share of what they span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A number on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point of a plot."""

    kind: str
    """A class of the style sheet."""
    x: float
    y: float
    title: str
    """Shown when the pointer rests on the mark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A straight line from one position to another."""

    kind: str
    start: tuple[float, float]
    end: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Marks and lines between two axes."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...]
    legend: tuple[tuple[str, str], ...] = ()
    """(kind, text) of what is drawn."""


def drawable(number: object) -> float | None:
    """Return a number that a plot can show; None for anything else, such as NaN."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return float(number) if abs(number) < _LARGEST else None  # False for NaN, too


@dataclass(frozen=True, slots=True)
class Axis:
    """The numbers that a plot spans in one direction."""

    low: float
    high: float

    @classmethod
    def of(cls, numbers: Iterable[float]) -> "Axis":
        """Return an axis with room around finite numbers; without any, from 0 to 1."""
        known = list(numbers) or [0.0, 1.0]
        low, high = min(known), max(known)
        span = high - low
        if span <= max(1e-9 * max(abs(low), abs(high)), 1e-12):  # one number, or as good as one
            span = max(abs(high), 1.0)
        return cls(low - _MARGIN * span, high + _MARGIN * span)

    def across(self, number: float) -> float:
        """Return the position of a number from the left."""
        return round(100 * (number - self.low) / (self.high - self.low), 2)

    def down(self, number: float) -> float:
        """Return the position of a number from the top."""
        return round(100 - self.across(number), 2)

    def ticks(self, position: Callable[[float], float], *, percent: bool = False) -> list[Tick]:
        """Return 2 to 7 round numbers with what ``position`` says, as text or in percent."""
        rough = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        scale = 100 if percent else 1
        digits = max(0, -math.floor(math.log10(step * scale * 1.0001)))
        unit = " %" if percent else ""
        return [
            Tick(at=position(i * step), text=f"{i * step * scale:.{digits}f}{unit}")
            for i in range(first, last + 1)
        ]


def joined(kind: str, positions: Sequence[tuple[float, float]]) -> list[Line]:
    """Return the lines from each position to the next."""
    return [Line(kind=kind, start=a, end=b) for a, b in itertools.pairwise(positions)]
