import itertools
from collections.abc import Callable

import pytest
import torch

from refiner.runtimes.choice import make_runtime
from refiner.runtimes.timing import Patience, ratio, timed, timed_networks

EAGER = make_runtime("eager", torch.device("cpu"))


def test_each_round_times_each_pass_and_the_warm_up_is_left_out(monkeypatch) -> None:
    calls: list[int] = []
    # Each look at the clock is later than the one before by 1 ms, 2 ms, 3 ms and so on.
    clock = itertools.accumulate(0.001 * i for i in itertools.count())
    monkeypatch.setattr("refiner.runtimes.timing.time.perf_counter", lambda: next(clock))
    passes = [lambda: calls.append(1), lambda: calls.append(2)]
    found = timed(passes, EAGER, Patience(repeats=9, most=9, warm_up=2))
    assert calls[::2] == calls[1::2], "two passes in a row, of which the second counts"
    rounds = [calls[i : i + 4 : 2] for i in range(0, len(calls), 4)]
    assert [sorted(each) for each in rounds] == [[1, 2]] * 11
    assert {tuple(each) for each in rounds} == {(1, 2), (2, 1)}, "the order is drawn"
    # A round looks four times; the rounds after the warm-up begin with the looks 8, 12, 16, ...
    for number, times in enumerate(found, 1):
        place = [rounds[r].index(number) for r in range(2, 11)]
        assert times == pytest.approx([4 * r + 2 * p + 1 for r, p in enumerate(place, 2)])


def passes_of(*takes: Callable[[int], float]) -> list[Callable[[], object]]:
    """Return passes that take so many ms in the n-th round, by a clock that only they move."""
    now, counts = [0.0], [0] * len(takes)

    def one(i: int) -> None:
        counts[i] += 1
        now[0] += takes[i]((counts[i] + 1) // 2) / 1000

    passes_of.clock = lambda: now[0]  # type: ignore[attr-defined]
    return [lambda i=i: one(i) for i in range(len(takes))]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("takes", "rounds"),
    [
        (lambda _: 2.0, 10),  # known at once
        (lambda n: 2.0 + 0.5 * (-1) ** (n * n // 3), 40),  # it wavers until the patience ends
    ],
)
def test_rounds_go_on_until_the_ratio_is_known(monkeypatch, takes, rounds) -> None:
    passes = passes_of(lambda _: 1.0, takes)
    monkeypatch.setattr("refiner.runtimes.timing.time.perf_counter", lambda: passes_of.clock())
    found = timed(passes, EAGER, Patience(repeats=10, most=40, warm_up=0))
    assert [len(times) for times in found] == [rounds] * 2


def test_a_ratio_is_that_of_rounds() -> None:
    assert ratio([2.0, 20.0, 200.0], [1.0, 10.0, 10.0]) == 2.0


@pytest.mark.parametrize(
    ("takes", "means"), [((10, 20), (11.0, 21.0)), ((30, 10), (30.0, 10.0))], ids=["short", "long"]
)
def test_a_short_network_takes_the_mean_of_its_copies(monkeypatch, takes, means) -> None:
    class Prepared:
        """The n-th copy of a network takes n ms more."""

        device = torch.device("cpu")
        running = EAGER.running

        def prepare_copies(self, network, example, count):
            assert example == "batch"
            return [
                lambda takes=network + n: now.__setitem__(0, now[0] + takes / 1000)
                for n in range(count)
            ]

    now, runtime = [0.0], Prepared()
    monkeypatch.setattr("refiner.runtimes.timing.time.perf_counter", lambda: now[0])
    patience = Patience(repeats=6, most=6, warm_up=1)
    found = timed_networks(takes, "batch", runtime, patience, copies=3)
    assert found == [pytest.approx([mean] * 6) for mean in means]
