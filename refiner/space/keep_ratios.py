"""The keep ratios that suit a channel group: those that leave multiples of a channel block.

Runtimes compute channels in blocks, so a width in between saves little time or none. A ratio has
four decimals or as many as it needs. It is rounded up, so that the width, which is rounded down,
follows from the name alone.
"""

import itertools
import math
import re
from collections.abc import Sequence
from fractions import Fraction

CHANNEL_BLOCK = 8
"""Channels of a block by default."""

FEWEST_WIDTHS = 3
MOST_WIDTHS = 16

_NAME = re.compile(r"keep(0\.\d+)")


def width_at(channels: int, keep_ratio: float) -> int:
    """Return how many of some channels stay at a keep ratio, rounded down."""
    return int(Fraction(str(keep_ratio)) * channels)


def keep_ratio_of(name: str) -> float | None:
    """Return the keep ratio that a candidate is named after, such as 0.5 of ``keep0.5``.

    It is None for any other name, also for one that would write the ratio in another way.
    """
    found = _NAME.fullmatch(name)
    ratio = float(found[1]) if found else 0.0
    return ratio if 0 < ratio < 1 and name == f"keep{ratio}" else None


def pruning_names(
    channels: Sequence[int], multiple: int = CHANNEL_BLOCK, units: Sequence[int] = ()
) -> tuple[str, ...]:
    """Return the names of the channel prunings that suit a group, the widest first.

    Each leaves a multiple of the block and of all units in every set of inner channels. If fewer
    than ``FEWEST_WIDTHS`` do, the block is halved; of more than ``MOST_WIDTHS`` multiples, only
    every second is taken, or every third, and so on.

    Args:
        channels: how many there are in each set of inner channels.
        multiple: channels of a block.
        units: how many channels stay or go together.
    """
    block = multiple
    names = _multiples(channels, math.lcm(block, *units))
    while len(names) < FEWEST_WIDTHS and block > 1:
        block //= 2
        names = _multiples(channels, math.lcm(block, *units))
    step = max(1, -(-len(names) // MOST_WIDTHS))
    return tuple(names[step - 1 :: step][::-1])


def _multiples(channels: Sequence[int], block: int) -> list[str]:
    """Return the names of all prunings that leave multiples of a block, the narrowest first."""
    fewest = min(channels)
    ratios = (_ratio(width, fewest) for width in range(block, fewest, block))
    return [
        f"keep{ratio}"
        for ratio in ratios
        if all(width_at(each, ratio) % block == 0 for each in channels)
    ]


def _ratio(width: int, channels: int) -> float:
    """Return the shortest ratio of four decimals or more that leaves ``width`` channels."""
    for digits in itertools.count(4):
        ratio = float(-(-width * 10**digits // channels) / 10**digits)
        if width_at(channels, ratio) == width:
            return ratio
    raise AssertionError
