import io

from refiner.core.progress import Clock, Lines, Silent, seconds, shown, time_left


class Time:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.value = 0.0

    def __call__(self) -> float:
        return self.value


def test_lines_show_the_phase_and_its_end() -> None:
    stream = io.StringIO()
    lines = Lines(stream, interval=0.0)
    lines.plan(["warm-up", "search", "top-k"])
    lines.begin("search", 4)
    lines.advance(1, loss=1.23456, vector="012")
    lines.advance(3, reward=0.5)
    lines.end()
    first, last = stream.getvalue().splitlines()
    assert first == "[2/3] search  1/4  25 %  left 0:00, run >0:00  loss 1.235"
    assert last == "[2/3] search  4/4  100 %  took 0:00  loss 1.235  reward 0.5"


def test_lines_are_written_at_most_every_ten_seconds() -> None:
    stream, now = io.StringIO(), Time()
    lines = Lines(stream)
    lines.clock = Clock(now)
    lines.begin("search", 100)
    for _ in range(99):
        now.value += 1.0
        lines.advance(1)
    assert len(stream.getvalue().splitlines()) == 9
    assert stream.getvalue().startswith("search  10/100  10 %  left 1:30\n")


def test_a_resumed_phase_counts_from_where_it_was() -> None:
    stream = io.StringIO()
    lines = Lines(stream, interval=0.0)
    lines.begin("train", 10, done=8)
    lines.advance(1)
    assert stream.getvalue().startswith("train  9/10  90 %")


def test_the_time_left_follows_the_steps_of_this_process() -> None:
    now = Time()
    clock = Clock(now)
    clock.begin("search", 100, 50)
    assert clock.phase_left() == "--"
    now.value = 20.0
    clock.advance(10, {})
    assert clock.phase_left() == "1:20"
    now.value = 25.0
    assert clock.phase_left() == "1:15"
    now.value = 1000.0
    assert clock.phase_left() == "0:00"


def test_the_time_left_of_the_run_is_a_lower_bound_until_each_kind_is_known() -> None:
    now = Time()
    clock = Clock(now)
    clock.plan(["search", "train original", "train refined", "train baseline"])
    clock.begin("search", 2, 0)
    assert (clock.number(), clock.run_left()) == ("[1/4]", "--")
    now.value = 60.0
    clock.advance(1, {})
    assert time_left(clock) == "left 1:00, run >1:00"
    now.value = 120.0
    clock.advance(1, {})
    clock.end()
    clock.begin("train original", 10, 0)
    assert clock.run_left() == "--"
    now.value = 150.0
    clock.advance(1, {})
    assert time_left(clock) == "left 4:30, run 14:30"
    now.value = 420.0
    clock.advance(9, {})
    clock.end()
    clock.begin("train baseline", 10, 0)
    now.value = 450.0
    clock.advance(1, {})
    assert (clock.number(), clock.run_left()) == ("[4/4]", "4:30")


def test_a_phase_outside_the_plan_has_no_number_and_earlier_ones_count_as_done() -> None:
    clock = Clock(Time())
    clock.plan(["warm-up", "search", "train original"])
    clock.begin("train original", 5, 3)
    assert clock.number() == "[3/3]"
    clock.begin("check", 1, 0)
    assert clock.number() == ""
    assert time_left(clock) == "left --"


def test_a_phase_without_steps_is_whole() -> None:
    clock = Clock(Time())
    clock.begin("distill", 0, 0)
    assert (clock.count(), clock.share(), clock.phase_left()) == ("0/0", "100 %", "0:00")


def test_numbers_and_durations_for_people() -> None:
    assert shown({"a": 0.123456, "b": "x"}) == "a 0.1235  b x"
    assert (seconds(59.6), seconds(61), seconds(3723)) == ("1:00", "1:01", "1:02:03")


def test_silent_says_nothing(capsys) -> None:
    silent = Silent()
    silent.plan(["x"])
    silent.begin("x", 1)
    silent.advance(1, a=1.0)
    silent.end()
    silent.note("y")
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_a_phase_that_comes_twice_has_its_own_number_each_time() -> None:
    clock = Clock(lambda: 0.0)
    clock.plan(["search", "top-k", "random baseline", "top-k"])
    numbers = []
    for phase in ("search", "top-k", "random baseline", "top-k"):
        clock.begin(phase, 1, 0)
        numbers.append(clock.number())
    assert numbers == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
