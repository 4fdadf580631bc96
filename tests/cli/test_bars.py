"""The progress line at several widths."""

import io
import re

import pytest
from refiner.cli.bars import Bars, progress_line
from rich.console import Console

from refiner.core.progress import Clock

STAGES = ["distill", "search", "top-k", "train refined", "train original", "train random baseline"]


class Time:
    """Seconds that a test moves."""

    value = 0.0

    def __call__(self) -> float:
        return self.value


def running(phase: str = "train random baseline") -> Clock:
    now = Time()
    clock = Clock(now)
    clock.plan(STAGES)
    clock.begin(phase, 12000, 0)
    now.value = 3600.0
    clock.advance(4000, {"loss": 1.23456, "accuracy": 0.91, "vector": "0120"})
    return clock


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("phase", STAGES)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_count_share_and_time_left_are_whole_at_any_width(width, phase, ascii_only) -> None:
    clock = running(phase)
    line = progress_line(clock, width, ascii_only=ascii_only).plain
    assert len(line) <= width
    number = f"[{STAGES.index(phase) + 1}/6]"
    run = "2:00:00" if phase == STAGES[-1] else clock.run_left()
    assert line.startswith(number)
    assert f" 4000/12000     33 %  left 2:00:00, run {run}".replace("     ", "   ") in line
    assert "0120" not in line
    assert line.isascii() or not ascii_only


def test_values_give_way_first_then_the_bar_then_the_name() -> None:
    clock = running()
    wide, usual, narrow = (progress_line(clock, width).plain for width in (130, 80, 60))
    assert "━" in wide
    assert "train random baseline" in wide
    assert wide.endswith("loss 1.235  accuracy 0.91")
    assert "train random baseline" in usual
    assert "loss" not in usual
    assert "…" in narrow
    assert "━" not in narrow
    assert progress_line(clock, 110).plain.endswith("…")


def test_a_phase_that_has_ended_shows_what_it_took() -> None:
    line = progress_line(running(), 80, "1:02:03").plain
    assert "took 1:02:03" in line
    assert "left" not in line


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_shows_one_line_for_each_phase(width) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, _environ={})
    bars = Bars(console)
    bars.plan(["search", "train refined"])
    bars.note(
        "a note that is long enough to be wrapped at the widths here, between two words of it"
    )
    for phase in ("search", "train refined"):
        bars.begin(phase, 2)
        bars.advance(1, loss=0.5)
        bars.advance(1, accuracy=0.25)
        bars.end()
    bars.begin("check", 3)
    bars.close()
    bars.close()
    plain = Console(file=io.StringIO(), width=200)
    lines = [plain.render_str(line).plain for line in _visible(stream.getvalue())]
    assert all(len(line) <= width for line in lines)
    assert sum(line.startswith("[1/2] search") and "took" in line for line in lines) == 1
    assert sum(line.startswith("[2/2] train refined") and "took" in line for line in lines) == 1
    assert any(line.startswith("check") and "0/3" in line for line in lines)


def _visible(output: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).replace("\r", "\n").split("\n")
