import pytest

from refiner.training.schedules import SCHEDULES, cosine, sgdr, step


@pytest.mark.parametrize(("epochs", "first", "count"), [(150, 10, 4), (35, 5, 3)])
def test_the_papers_restarts(epochs: int, first: int, count: int) -> None:
    starts = [first * (2**k - 1) for k in range(4) if first * (2**k - 1) < epochs]
    assert len(starts) == count
    for start in starts:
        assert sgdr(start, epochs) == pytest.approx(1)
    assert sgdr(first - 1e-6, epochs) == pytest.approx(0, abs=1e-6)
    assert sgdr(first / 2, epochs) == pytest.approx(0.5)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 10, 15, 100])
@pytest.mark.parametrize("name", ["sgdr", "cosine"])
def test_the_last_cycle_ends_with_the_training(name: str, epochs: int) -> None:
    assert SCHEDULES[name](epochs - 1e-6, epochs) == pytest.approx(0, abs=1e-6)
    assert SCHEDULES[name](0, epochs) == pytest.approx(1)


def test_cosine_and_step_by_hand() -> None:
    assert [cosine(e, 4) for e in (0, 2, 4)] == pytest.approx([1, 0.5, 0])
    assert [step(e, 8) for e in (0, 3.9, 4, 5.9, 6, 7.9)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )


def test_a_short_training_has_one_cycle() -> None:
    for epochs in (1, 10, 14):
        moments = [epochs * i / 8 for i in range(9)]
        assert [sgdr(e, epochs) for e in moments] == pytest.approx(
            [cosine(e, epochs) for e in moments]
        )
    assert sgdr(5, 15) == pytest.approx(1), "two cycles, of 5 and 10 epochs"
