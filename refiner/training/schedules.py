"""Learning-rate schedules: SGDR (warm restarts), one cosine, steps.

Each returns a share of the range from the least learning rate (0) to the largest (1).
"""

import math
from collections.abc import Callable


def sgdr(epoch: float, epochs: int) -> float:
    """Return the share of SGDR: a cosine from 1 to 0 in each cycle (Loshchilov and Hutter, 2017).

    The cycles last T_0, 2 T_0, 4 T_0, ... epochs, and the last one ends with the training. There
    are at most four cycles, and as many as keep T_0 at five epochs or more. 150 epochs give the
    paper's T_0 of 10, 35 epochs its T_0 of 5.

    Args:
        epoch: moment of the training, 0 to ``epochs``.
        epochs: length of the training.
    """
    cycles = max((k for k in (2, 3, 4) if epochs / (2**k - 1) >= 5), default=1)
    length = epochs / (2**cycles - 1)
    start = 0.0
    while epoch >= start + length - 1e-9 and start + length < epochs - 1e-9:
        start, length = start + length, 2 * length
    return (1 + math.cos(math.pi * (epoch - start) / length)) / 2


def cosine(epoch: float, epochs: int) -> float:
    """Return the share of one cosine, from 1 to 0 over the whole training."""
    return (1 + math.cos(math.pi * epoch / epochs)) / 2


def step(epoch: float, epochs: int) -> float:
    """Return 1, then 0.1 from half of the training on, 0.01 from three quarters on (ResNet's)."""
    passed = epoch / epochs
    return 0.1 ** ((passed >= 0.5) + (passed >= 0.75))


SCHEDULES: dict[str, Callable[[float, int], float]] = {
    "sgdr": sgdr,
    "cosine": cosine,
    "step": step,
}
