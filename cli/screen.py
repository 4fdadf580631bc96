"""What a person sees: the progress of a run and its report."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from refiner.core.listeners import Listeners
from refiner.core.progress import Lines, Progress
from refiner.runs.report import Report
from refiner.trackers.choice import make_trackers

from .bars import Bars
from .paths import name_list
from .tables import print_table as print_table
from .tables import say as say


class PlainLines(Lines):
    """Plain lines, for an output that is not a terminal."""

    def close(self) -> None:
        """Do nothing; there is no terminal to give back."""


def listener() -> Bars | PlainLines:
    """Return bars for a terminal and lines for anything else."""
    return Bars() if sys.stderr.isatty() else PlainLines()


def tracker_names(given: Sequence[str] | None) -> list[str]:
    """Return the names in the values of ``--log``, once each of them can log.

    Raises:
        ConfigError: an unknown name, or its package is missing.
    """
    names = [name for each in given or () for name in name_list(each, "--log")]
    make_trackers(names, Path())
    return names


@contextmanager
def listening(
    folder: Path, resume: str, shown: Path | None = None, log: Sequence[str] = ()
) -> Iterator[Progress]:
    """Yield a listener for a run; if the user stops the run, print the command that resumes it.

    Args:
        folder: of the run.
        resume: that command.
        shown: folder that it goes on with, if that is not ``folder``.
        log: names of the trackers that listen, too.
    """
    progress, trackers = listener(), make_trackers(log, folder)
    try:
        yield Listeners(progress, *trackers)
    except KeyboardInterrupt:
        progress.close()
        if next((shown or folder).glob("**/config.json"), None) is not None:
            again = "".join(f" --log {name}" for name in log)
            print(f"stopped; to go on: {resume}{again}", file=sys.stderr)
        raise
    finally:
        progress.close()
        for each in trackers:
            each.close()


def print_report(report: Report) -> None:
    """Print a report: the result, the scores, the slots, then the notes."""
    replaced = sum(index != 0 for index in report.vector)
    print_table("Result", ("", "original", "refined", "change"), report.summary())
    if sentences := report.sentences():
        head, *rows = report.network_rows()
        print_table("Scores", head, rows)
        print()
        for sentence in (*sentences, report.comparison(), report.baseline_ahead()):
            if sentence:
                say(sentence)
    print_table(
        f"Slots: {replaced} of {len(report.vector)} replaced",
        ("slot", "original", "operation", "MACs before", "MACs after"),
        [
            (s.name, s.original, s.operation if i else "kept", f"{s.before.macs:,}",
             f"{s.after.macs:,}")
            for s, i in zip(report.slots, report.vector, strict=True)
        ],
        left=3,
    )  # fmt: skip
    print("\narchitecture " + ",".join(map(str, report.vector)))
    if prepared := dict(report.settings).get("preprocessing"):
        say(f"preprocessing {prepared}")
    for note in report.notes:
        say(f"note: {note}")
