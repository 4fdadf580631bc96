"""Times passes of several networks in turn, so that a slow phase of the machine slows all of them.

In each round every network runs twice in a row, and the second pass counts. The first one finds the
data of another network in the caches, which a network that is deployed does not. The order within a
round is random: a scheduler's time slice may be about as long as a round, and would interrupt the
same network each time. A GPU is synchronized once, after some rounds: events in its stream mark the
begin and end of each pass.
"""

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from refiner.core.inputs import ExampleInput
from refiner.core.randomness import seeded
from refiner.runtimes.confidence import median_interval
from refiner.runtimes.runtime import Pass, Runtime

COPIES = 3
"""Of a network whose time is compared with another's."""
_LONG = 20.0
"""Milliseconds of a pass from which one copy is enough: memory then moves it by less than 0.5 %."""
_CHUNK = 10
"""Rounds between two looks at the noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long passes are timed."""

    repeats: int = 30
    """Rounds at least."""
    most: int = 30
    """Rounds at most."""
    warm_up: int = 5
    """Rounds before them, which do not count."""
    noise: float = 0.01
    """Between ``repeats`` and ``most``, rounds go on until each median ratio to the first network
    is known this well, with 95 % confidence."""


def timed(
    passes: Sequence[Pass], runtime: Runtime, patience: Patience | None = None
) -> list[list[float]]:
    """Return the milliseconds of each pass in each round, by pass.

    Args:
        passes: as the runtime prepared them; the first is what others are compared with.
        runtime: where they run.
        patience: how many rounds.
    """
    patience = patience or Patience()
    times: list[list[float]] = [[] for _ in passes]
    rng = random.Random(0)
    with runtime.running(), seeded(0):
        _rounds(passes, patience.warm_up, rng, runtime.device)
        rounds = patience.repeats
        while rounds > 0:
            for each, more in zip(times, _rounds(passes, rounds, rng, runtime.device), strict=True):
                each += more
            known = _is_known(times, patience.noise)
            rounds = 0 if known else min(_CHUNK, patience.most - len(times[0]))
    return times


def timed_networks(
    networks: Sequence[nn.Module],
    example: ExampleInput,
    runtime: Runtime,
    patience: Patience | None = None,
    *,
    copies: int = COPIES,
) -> list[list[float]]:
    """Return the milliseconds of each network in each round, the mean of some copies of it.

    Where a copy happens to lie in memory changes its time by some percent in all rounds, unless a
    pass is long. Then one copy of each is timed.

    Args:
        networks: the first is what others are compared with.
        example: the batch.
        runtime: where they run; it holds all copies of all networks.
        patience: how many rounds.
        copies: of each network.

    Raises:
        ModelError: the runtime cannot hold one of them.
    """
    first = runtime.prepare_copies(networks[0], example, copies)
    if copies > 1 and _is_long(first[0], runtime):
        first, copies = first[:1], 1
    others = [runtime.prepare_copies(each, example, copies) for each in networks[1:]]
    times = timed([one for own in (first, *others) for one in own], runtime, patience)
    own = [times[i : i + copies] for i in range(0, len(times), copies)]
    return [[statistics.fmean(each) for each in zip(*some, strict=True)] for some in own]


def _is_long(one: Pass, runtime: Runtime) -> bool:
    """Return whether a pass is so long that one copy of its network is enough."""
    (times,) = timed([one], runtime, Patience(repeats=1, most=1, warm_up=1))
    return times[0] > _LONG


def _rounds(
    passes: Sequence[Pass], count: int, rng: random.Random, device: torch.device
) -> list[list[float]]:
    rounds = []
    for _ in range(count):
        for i in rng.sample(range(len(passes)), len(passes)):
            passes[i]()
            start = _moment(device)
            passes[i]()
            rounds.append((i, start, _moment(device)))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    times: list[list[float]] = [[] for _ in passes]
    for i, start, end in rounds:
        times[i].append(_between(start, end))
    return times


def _is_known(times: Sequence[Sequence[float]], noise: float) -> bool:
    """Return whether the median ratio of each to the first is known within ``noise``."""
    for each in times[1:]:
        interval = median_interval([a / b for a, b in zip(each, times[0], strict=True)])
        if interval is None or interval[1] - interval[0] > 2 * noise:
            return False
    return True


def _moment(device: torch.device) -> Any:
    """Return this moment: in seconds, or as an event that a GPU's stream has yet to come to."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _between(start: Any, end: Any) -> float:
    """Return the milliseconds between two moments."""
    return 1000 * (end - start) if isinstance(start, float) else float(start.elapsed_time(end))


def ratio(times: Sequence[float], to: Sequence[float]) -> float:
    """Return the median ratio of two passes over the rounds."""
    return statistics.median(a / b for a, b in zip(times, to, strict=True))
