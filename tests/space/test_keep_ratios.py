import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from refiner.space.candidates import ChannelPruning, get_candidate
from refiner.space.keep_ratios import (
    FEWEST_WIDTHS,
    MOST_WIDTHS,
    keep_ratio_of,
    pruning_names,
    width_at,
)


def left(channels: int, *rest: int, multiple: int = 8) -> list[int]:
    """Return how many of the first set of channels each suitable pruning leaves."""
    names = pruning_names((channels, *rest), multiple)
    return [width_at(channels, get_candidate(name).keep_ratio) for name in names]


def test_widths_by_hand() -> None:
    assert left(64) == [56, 48, 40, 32, 24, 16, 8]
    assert left(32) == [24, 16, 8]
    assert left(16) == [12, 8, 4], "one multiple of 8 is too few, and blocks of 4 give three"
    assert left(24) == [20, 16, 12, 8, 4]
    assert left(144) == [128, 112, 96, 80, 64, 48, 32, 16], "every second of 17 multiples"
    assert left(512) == list(range(480, 0, -32))
    assert left(64, multiple=16) == [48, 32, 16]
    assert left(64, multiple=1) == list(range(60, 0, -4))
    assert left(3) == [2, 1]
    assert left(1) == []
    assert left(36, 72) == [32, 24, 16, 8]
    assert left(36, 54) == [32, 24, 16, 8], "of blocks of 4: 8 of 36 are 12 of 54"


def test_units_stay_whole() -> None:
    def kept(channels: int, *units: int) -> list[int]:
        names = pruning_names((channels,), units=units)
        return [width_at(channels, get_candidate(name).keep_ratio) for name in names]

    assert kept(64, 16) == [48, 32, 16]
    assert kept(48, 6) == [36, 24, 12], "blocks of 4 and of 6 are blocks of 12"
    assert kept(24, 2, 3) == [18, 12, 6]
    assert kept(32, 16) == [16]


def test_names_by_hand() -> None:
    assert pruning_names((32,)) == ("keep0.75", "keep0.5", "keep0.25")
    assert pruning_names((96,))[6:9] == ("keep0.4167", "keep0.3334", "keep0.25")
    assert width_at(96, 0.3334) == 32
    assert width_at(100, 0.29) == 29, "100 * 0.29 is less than 29 in floating point"


@settings(deadline=None)
@given(st.integers(1, 2048), st.integers(1, 64))
@example(10_007, 1)  # four decimals are too few
def test_a_single_set(channels: int, multiple: int) -> None:
    names = pruning_names((channels,), multiple)
    widths = [width_at(channels, keep_ratio_of(name) or 0.0) for name in names]
    assert widths == sorted(set(widths), reverse=True)
    assert all(0 < width < channels for width in widths)
    assert min(FEWEST_WIDTHS, channels - 1) <= len(widths) <= MOST_WIDTHS
    if (channels - 1) // multiple >= FEWEST_WIDTHS:
        assert all(width % multiple == 0 for width in widths)
    gaps = {a - b for a, b in itertools.pairwise(widths)}
    assert gaps <= set(widths[-1:]), "evenly spread, from one block on"


@settings(deadline=None)
@given(st.lists(st.integers(1, 2048), min_size=1, max_size=3), st.integers(1, 64))
def test_several_sets_share_a_ratio(channels: list[int], multiple: int) -> None:
    names = pruning_names(channels, multiple)
    assert len(names) <= MOST_WIDTHS
    blocks = {multiple >> i for i in range(7)} - {0}
    for each in channels:
        widths = [width_at(each, keep_ratio_of(name) or 0.0) for name in names]
        assert widths == sorted(set(widths), reverse=True)
        assert all(0 < width < each for width in widths)
    if len(names) >= FEWEST_WIDTHS:
        all_widths = [width_at(c, keep_ratio_of(name) or 0.0) for c in channels for name in names]
        assert any(all(width % block == 0 for width in all_widths) for block in blocks)


@given(st.integers(2, 4096))
def test_a_name_says_the_ratio_and_nothing_else_does(channels: int) -> None:
    for name in pruning_names((channels,)):
        found = get_candidate(name)
        assert found == ChannelPruning(name=name, keep_ratio=float(name.removeprefix("keep")))
    for other in ("keep1.0", "keep0.0", "keep0.50", "keep.5", "keep1e-3", "keep5", "depthwise3x3"):
        assert keep_ratio_of(other) is None
