import math
import random

import pytest

from refiner.runtimes.confidence import CONFIDENCE, median_interval


def test_the_ranks_are_those_of_the_tables() -> None:
    # Ranks of a 95 % interval of the median: 1 of 6, 2 of 9, 4 of 15, 10 of 30.
    for count, rank in ((6, 1), (9, 2), (15, 4), (30, 10)):
        assert median_interval(range(1, count + 1)) == (rank, count + 1 - rank)
        beyond = 2 * sum(math.comb(count, k) for k in range(rank)) / 2**count
        assert beyond <= 1 - CONFIDENCE < beyond + 2 * math.comb(count, rank) / 2**count


@pytest.mark.parametrize("count", range(6))
def test_too_few_values_tell_nothing(count) -> None:
    assert median_interval([1.0] * count) is None


def test_the_order_does_not_matter_and_one_wild_value_neither() -> None:
    values = [float(v) for v in range(15)]
    wild = [*values[:-1], 1e9]
    random.Random(0).shuffle(wild)
    assert median_interval(wild) == median_interval(values) == (3.0, 11.0)
