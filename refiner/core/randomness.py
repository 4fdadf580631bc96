"""Seeded random numbers for code that draws from the global generators, which get theirs back."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(seed: int, *path: int | str) -> int:
    """Return a 63-bit seed for the purpose that ``path`` names, independent between paths.

    The same arguments give the same number on every machine and in every process.
    """
    words = [seed & 0xFFFFFFFF]
    for part in path:
        words += list(part.encode()) if isinstance(part, str) else [part & 0xFFFFFFFF]
        words.append(0xFFFFFFFF)
    low, high = np.random.SeedSequence(words).generate_state(2)
    return int(low) | (int(high) & 0x7FFFFFFF) << 32


@contextmanager
def seeded(seed: int, generators: Iterable[torch.Generator] = ()) -> Iterator[None]:
    """Seed the global generators of torch, numpy and random inside, and restore them after.

    Module constructors, dropout, samplers and augmentations draw from the global generators. In
    this context they repeat, and the caller's own stream of random numbers is not disturbed. The
    same holds for ``generators``, such as a loader's own.
    """
    seed %= 2**63
    own = [(generator, generator.get_state()) for generator in generators]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        random.seed(seed)
        for generator, _ in own:
            generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            for generator, state in own:
                generator.set_state(state)
