import io

from refiner.core.progress import Lines, Silent, seconds, shown


def test_lines_tell_the_phase_and_its_end() -> None:
    stream = io.StringIO()
    lines = Lines(stream, interval=0.0)
    lines.begin("search", 4)
    lines.advance(1, loss=1.23456)
    lines.advance(3, vector="012")
    lines.end()
    first, last = stream.getvalue().splitlines()
    assert first.startswith("search  1/4  ")
    assert "left" in first
    assert "loss 1.235" in first
    assert last.startswith("search  4/4  took ")
    assert "vector 012" in last


def test_a_resumed_phase_counts_from_where_it_was() -> None:
    stream = io.StringIO()
    lines = Lines(stream, interval=0.0)
    lines.begin("train", 10, done=8)
    lines.advance(1)
    assert stream.getvalue().startswith("train  9/10")


def test_numbers_and_durations_for_people() -> None:
    assert shown({"a": 0.123456, "b": "x"}) == "a 0.1235  b x"
    assert (seconds(59.6), seconds(61), seconds(3723)) == ("1:00", "1:01", "1:02:03")


def test_silent_says_nothing(capsys) -> None:
    silent = Silent()
    silent.begin("x", 1)
    silent.advance(1, a=1.0)
    silent.end()
    silent.note("y")
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
