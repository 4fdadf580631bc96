"""Whether one thing takes longer than another, by pairs of measurements taken beside each other.

A single number says little: two medians differ by chance. Each round measures both, so a slow phase
of the machine slows both, and the differences of the rounds tell. Their median lies between two of
them with a confidence that holds for any distribution.

Source: Conover, Practical Nonparametric Statistics, section 3.2 (interval for a quantile).
"""

import math
from collections.abc import Sequence

CONFIDENCE = 0.95


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return an interval that holds the median with a confidence of at least 95 %.

    The median lies below the j-th smallest of n values with the probability that of n tosses fewer
    than j fall heads. None where there are too few values, 5 or fewer.
    """
    ordered, count = sorted(values), len(values)
    outside, rank = 0.0, 0
    while True:
        outside += 2 * math.comb(count, rank) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        rank += 1
    return (ordered[rank - 1], ordered[count - rank]) if rank else None
