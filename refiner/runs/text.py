"""Numbers and tables as text, for reports."""

from collections.abc import Iterable, Sequence


def change(before: float, after: float) -> str:
    """Return the relative change in percent: ``-19.7 %``."""
    return f"{100 * (after / before - 1):+.1f} %" if before else "n/a"


def comma_separated(vector: Sequence[int]) -> str:
    """Return an architecture vector as the command line takes it: ``1,0,0,2``."""
    return ",".join(map(str, vector))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)
    return lines + ["| " + " | ".join(row) + " |" for row in cells]
