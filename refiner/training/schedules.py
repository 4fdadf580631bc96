"""Learning rates over a training: SGDR, one cosine, steps."""

import math
from collections.abc import Callable


def sgdr(epoch: float, epochs: int) -> float:
    """Return the rate at a moment of a training, 1 the largest and 0 the least (Loshchilov and Hutter).

    Cosine from 1 to 0 within each cycle; cycle lengths T_0, 2 T_0, 4 T_0, ... . There are at most four
    cycles, and as many as leave T_0 at five epochs or more, so that the last ends with the training:
    150 epochs give the paper's T_0 of 10, 35 epochs its 5.
    """
    cycles = max((k for k in (2, 3, 4) if epochs / (2**k - 1) >= 5), default=1)
    length = epochs / (2**cycles - 1)
    start = 0.0
    while epoch >= start + length - 1e-9 and start + length < epochs - 1e-9:
        start, length = start + length, 2 * length
    return (1 + math.cos(math.pi * (epoch - start) / length)) / 2


def cosine(epoch: float, epochs: int) -> float:
    """Return the rate of one cosine from 1 to 0 over the whole training."""
    return (1 + math.cos(math.pi * epoch / epochs)) / 2


def step(epoch: float, epochs: int) -> float:
    """Return 1, a tenth from half of the training on, a hundredth from three quarters on (He et al., 2016)."""
    passed = epoch / epochs
    return 0.1 ** ((passed >= 0.5) + (passed >= 0.75))


SCHEDULES: dict[str, Callable[[float, int], float]] = {
    "sgdr": sgdr,
    "cosine": cosine,
    "step": step,
}
