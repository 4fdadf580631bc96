import io

from refiner.core.listeners import Listeners, Tracker, tracker
from refiner.core.progress import Lines, Silent


class Kept(Silent):
    def __init__(self) -> None:
        self.calls: list = []

    def settings(self, values) -> None:
        self.calls.append(("settings", values))

    def epoch(self, phase, number, values) -> None:
        self.calls.append((phase, number, values))

    def result(self, values) -> None:
        self.calls.append(("result", values))


def test_every_listener_receives_everything_and_trackers_the_figures() -> None:
    first, second, kept = io.StringIO(), io.StringIO(), Kept()
    both = Listeners(Lines(first, interval=0.0), kept, Lines(second, interval=0.0))
    both.plan(["search"])
    both.settings({"seed": "0"})
    both.begin("search", 2, done=1)
    both.advance(1, loss=0.5)
    both.epoch("search", 1, {"loss": 0.5})
    both.end()
    both.note("a note")
    both.result({"refined/MACs": 1.0})
    assert first.getvalue() == second.getvalue()
    assert "[1/1] search  2/2  100 %  took 0:00  loss 0.5\na note\n" in first.getvalue()
    assert kept.calls == [
        ("settings", {"seed": "0"}),
        ("search", 1, {"loss": 0.5}),
        ("result", {"refined/MACs": 1.0}),
    ]


def test_a_listener_need_not_be_a_tracker() -> None:
    assert isinstance(Listeners(), Tracker)
    assert not isinstance(Silent(), Tracker)
    tracker(Silent()).epoch("search", 1, {})
    kept = Kept()
    assert tracker(kept) is kept
