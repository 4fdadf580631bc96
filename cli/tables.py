"""Tables and sentences on terminals of any width."""

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refiner.core.printable import printable

_GAP = 2
"""Characters between two columns."""
_LEAST_TEXT = 12
"""Characters that a column of text keeps even if a word of it is longer."""
_BREAK = re.compile(r"(?<=[_/])|(?<=\.)(?!(?<=\d\.)\d)")
"""Where a name may be broken: after ``_``, ``/`` and ``.``, unless the dot belongs to a number."""


def say(text: str) -> None:
    """Print a text to stdout; on a terminal it is wrapped between words."""
    text = printable(text)
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    print(text)


def print_table(
    title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, left: int = 1
) -> None:
    """Print a table to stdout.

    Texts are folded between words, and names after a dot or an underscore. Numbers are never
    broken: columns of numbers that find no room follow in a second table below the first.

    Args:
        title: of the table.
        head: names of the columns.
        rows: cells as text.
        left: number of columns at the left that hold text; those after them hold numbers.
    """
    console = Console()
    columns = [tuple(map(printable, each)) for each in zip(head, *rows, strict=True)]
    texts, numbers = columns[:left], columns[left:]
    least = [min(_longest_piece(cells), max(_longest_line(cells), 1)) for cells in texts]
    while True:
        room = console.width - sum(width + _GAP for width in least)
        fitting = _fitting(numbers, room)
        if fitting or not numbers or max(least) <= _LEAST_TEXT:
            break
        least = [min(width, _LEAST_TEXT) for width in least]  # words are broken, numbers are not
    shown = numbers[: max(fitting, 1)]
    _print(console, title, texts, shown, least)
    if numbers[len(shown) :]:
        rest = [*texts, *numbers[len(shown) :]]
        head, *rows = zip(*rest, strict=True)
        print_table(f"{title} (continued)", head, rows, left=left)


def fold(text: str, width: int) -> str:
    """Return a text in lines of at most ``width`` characters, broken where a reader expects it."""
    lines = [""]
    for i, word in enumerate(text.split(" ")):
        space = " " if i else ""
        if len(lines[-1]) + len(space) + len(word) <= width:
            lines[-1] += space + word
            continue
        if lines[-1]:
            lines.append("")
        for piece in filter(None, _BREAK.split(word)):
            if lines[-1] and len(lines[-1]) + len(piece) > width:
                lines.append("")
            lines[-1] += piece
            while len(lines[-1]) > width:
                lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return "\n".join(lines)


def _print(
    console: Console,
    title: str,
    texts: Sequence[tuple[str, ...]],
    numbers: Sequence[tuple[str, ...]],
    least: Sequence[int],
) -> None:
    """Print one table; columns of text share the room that the numbers leave."""
    columns = [*texts, *numbers]
    most = [_longest_line(cells) for cells in columns]
    widths = [*least, *map(_number_width, numbers)]
    spare = console.width - sum(widths) - _GAP * (len(widths) - 1)
    for i in range(len(columns)):  # a head of numbers is folded before a text is
        more = min(most[i] - widths[i], max(spare, 0))
        widths[i], spare = widths[i] + more, spare - more
    table = Table(
        header_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for i, (cells, width) in enumerate(zip(columns, widths, strict=True)):
        justify: Literal["left", "right"] = "left" if i < len(texts) else "right"
        table.add_column(_folded(cells[0], width), justify=justify, no_wrap=True, width=width)
    for row in list(zip(*columns, strict=True))[1:]:
        table.add_row(*(_folded(c, w) for c, w in zip(row, widths, strict=True)))
    console.width = max(console.width, sum(widths) + _GAP * (len(widths) - 1))
    console.print()
    console.print(Text(fold(printable(title), console.width), style="italic"))
    console.print(table)


def _fitting(numbers: Sequence[tuple[str, ...]], room: int) -> int:
    """Return how many of the columns of numbers find room."""
    count, used = 0, -_GAP
    for cells in numbers:
        used += _number_width(cells) + _GAP
        if used > room:
            break
        count += 1
    return count


def _number_width(cells: Sequence[str]) -> int:
    """Return the width of a column whose head may be folded and whose numbers may not."""
    return max(_longest_piece(cells[:1]), _longest_line(cells[1:]))


def _longest_line(cells: Sequence[str]) -> int:
    return max((len(line) for cell in cells for line in cell.split("\n")), default=0)


def _longest_piece(cells: Sequence[str]) -> int:
    words = [word for cell in cells for word in cell.split()]
    return max((len(piece) for word in words for piece in _BREAK.split(word)), default=0)


def _folded(cell: str, width: int) -> str:
    return "\n".join(fold(line, width) for line in cell.split("\n"))
