"""Seeded random numbers for code that draws from the global generators, which get theirs back."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

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


@contextmanager
def kept_generators(holder: object) -> Iterator[None]:
    """Give the generators that an object holds, in attributes and theirs, their states back after.

    These are torch's, numpy's and Python's own, as data sets and transforms keep them.
    """
    kept = [(each, _state(each)) for each in _generators(holder, set())]
    try:
        yield
    finally:
        for each, state in kept:
            _restore(each, state)


def _generators(value: Any, seen: set[int], depth: int = 6) -> Iterator[Any]:
    """Yield the random number generators in an object's attributes and what these hold."""
    if id(value) in seen or not depth:
        return
    seen.add(id(value))
    if isinstance(
        value, random.Random | np.random.Generator | np.random.RandomState | torch.Generator
    ):
        yield value
    elif isinstance(value, list | tuple) and len(value) <= 100:
        for item in value:
            yield from _generators(item, seen, depth - 1)
    elif hasattr(value, "__dict__") and not isinstance(value, type | ModuleType):
        for item in list(vars(value).values()):
            if not isinstance(item, torch.Tensor | np.ndarray | str | int | float):
                yield from _generators(item, seen, depth - 1)


def _state(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state()


def _restore(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)
