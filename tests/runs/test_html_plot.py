import math

import pytest

from refiner.runs.html_plot import Axis, Line, drawable, joined


def test_positions_are_percentages_from_the_upper_left() -> None:
    axis = Axis(low=-1.0, high=3.0)
    assert [axis.across(number) for number in (-1, 0, 3)] == [0.0, 25.0, 100.0]
    assert [axis.down(number) for number in (-1, 0, 3)] == [100.0, 75.0, 0.0]


def test_ticks_are_round_and_show_as_many_digits_as_they_need() -> None:
    axis = Axis.of([0.6, 0.84])
    assert [(t.text, t.at) for t in axis.ticks(axis.across)] == [
        (f"{number:.2f}", axis.across(number)) for number in (0.60, 0.65, 0.70, 0.75, 0.80, 0.85)
    ]
    shares = Axis.of([0.22, 1.0])
    assert [t.text for t in shares.ticks(shares.across, percent=True)] == [
        "20 %", "40 %", "60 %", "80 %", "100 %",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "numbers", [[], [0.0], [5.0, 5.0], [1e14, 1e14 + 1], [1e-320, 2e-320], [-9e14, 9e14]]
)
def test_any_numbers_lie_inside_an_axis_with_ticks(numbers: list[float]) -> None:
    axis = Axis.of(numbers)
    assert all(0 < axis.across(number) < 100 for number in numbers)
    assert 2 <= len(axis.ticks(axis.across)) <= 7


def test_only_moderate_numbers_are_drawn() -> None:
    assert [drawable(n) for n in (1, -2.5)] == [1.0, -2.5]
    for other in (math.nan, math.inf, -math.inf, 1e300, True, None, "1", [1]):
        assert drawable(other) is None


def test_positions_are_joined_one_after_the_other() -> None:
    assert joined("front", [(0, 1), (2, 3), (4, 5)]) == [
        Line(kind="front", start=(0, 1), end=(2, 3)),
        Line(kind="front", start=(2, 3), end=(4, 5)),
    ]
    assert joined("front", [(0, 1)]) == []
