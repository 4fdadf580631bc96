"""What a person sees: progress and tables."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from refiner.core.progress import Lines, Value, seconds, shown
from refiner.runs.report import Report
from refiner.runs.report_rows import BASELINE_HEAD

_LEAST_TEXT = 12
"""Characters that a column of text keeps; the terminal breaks the lines of a table that is wider still."""


class Bars:
    """A progress bar a phase on a terminal, with time left and what there is to watch."""

    def __init__(self) -> None:
        self.bars = RichProgress(
            TextColumn("[bold]{task.description:<15}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[watch]}"),
            console=Console(stderr=True),
        )
        self.task: TaskID | None = None
        self.values: dict[str, Value] = {}

    def begin(self, phase: str, total: int, done: int = 0) -> None:
        """Add a bar."""
        self.bars.start()
        self.values = {}
        self.task = self.bars.add_task(phase, total=total, completed=done, watch="")

    def advance(self, steps: int = 1, **values: Value) -> None:
        """Move the bar."""
        assert self.task is not None
        self.values.update(values)
        self.bars.update(self.task, advance=steps, watch=shown(self.values))

    def end(self) -> None:
        """Fill the bar."""
        assert self.task is not None
        task = self.bars.tasks[self.task]
        took = f"took {seconds(task.elapsed or 0)}"
        self.bars.update(self.task, completed=task.total, watch=f"{took}  {shown(self.values)}")

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self.bars.console.print(text, highlight=False)

    def close(self) -> None:
        """Give the terminal back."""
        self.bars.stop()


class PlainLines(Lines):
    """Plain lines, for an output that is no terminal."""

    def close(self) -> None:
        """There is nothing to give back."""


def listener() -> Bars | PlainLines:
    """Return bars for a terminal and lines for anything else."""
    return Bars() if sys.stderr.isatty() else PlainLines()


@contextmanager
def listening(folder: Path, resume: str, shown: Path | None = None) -> Iterator[Bars | PlainLines]:
    """Give a listener to a run in ``folder``; if the user stops it, print the command that goes on.

    Args:
        folder: of the run.
        resume: that command, without the folder.
        shown: folder for it, where it is not ``folder``.
    """
    progress = listener()
    try:
        yield progress
    except KeyboardInterrupt:
        progress.close()
        if next((shown or folder).glob("**/config.json"), None) is not None:
            print(f"stopped; to go on: {resume} {shown or folder}", file=sys.stderr)
        raise
    finally:
        progress.close()


def print_table(
    title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, left: int = 1
) -> None:
    """Print a table to stdout; where the terminal is narrow, texts are folded and numbers are not.

    Args:
        title: of the table.
        head: of the columns.
        rows: of text.
        left: so many of the first columns are text, and the numbers after them stand right.
    """
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    table.pad_edge = False
    widths = []
    for i, cells in enumerate(zip(head, *rows, strict=True)):
        width = max(len(line) for cell in cells for line in cell.split("\n"))
        widths.append(width if i >= left else min(width, _LEAST_TEXT))
        table.add_column(
            head[i],
            justify="left" if i < left else "right",
            overflow="fold",
            no_wrap=i >= left,
            min_width=widths[-1],
        )
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.width = max(console.width, sum(widths) + 3 * len(widths))
    console.print(table)


def print_report(report: Report) -> None:
    """Print a report's tables."""
    print_table(
        "slots",
        ("slot", "original", "operation", "MACs before", "after"),
        [
            (s.name, s.original, s.operation if i else "kept", f"{s.before.macs:,}",
             f"{s.after.macs:,}")
            for s, i in zip(report.slots, report.vector, strict=True)
        ],
        left=3,
    )  # fmt: skip
    print_table("result", ("", "original", "refined", "change"), report.summary())
    if report.baselines:
        print_table("baselines, of as many scores", BASELINE_HEAD, report.baseline_rows())
        print(report.comparison())
        if ahead := report.baseline_ahead():
            print(ahead)
    print("architecture " + ",".join(map(str, report.vector)))
    for note in report.notes:
        print(f"note: {note}")
