import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from refiner.core.randomness import derive_seed, kept_generators, seeded


def draw() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()


def test_seeded_repeats_and_gives_the_streams_back() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    undisturbed = [draw(), draw()]
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    before = draw()
    with seeded(5):
        first = draw()
    with seeded(5):
        second = draw()
    assert first == second
    assert [before, draw()] == undisturbed


def test_seeded_restores_after_an_error() -> None:
    state = torch.get_rng_state()
    try:
        with seeded(3):
            torch.rand(3)
            raise ValueError
    except ValueError:
        pass
    assert torch.equal(torch.get_rng_state(), state)


@given(st.integers(0, 2**32 - 1), st.integers(0, 1000), st.integers(0, 1000))
def test_derived_seeds_differ_between_paths_and_fit_torch(seed: int, a: int, b: int) -> None:
    assert 0 <= derive_seed(seed, "x", a) < 2**63
    assert derive_seed(seed, "x", a) == derive_seed(seed, "x", a)
    assert derive_seed(seed, "x", a) != derive_seed(seed, "y", a)
    assert (derive_seed(seed, "x", a) == derive_seed(seed, "x", b)) == (a == b)


def test_generators_that_an_object_holds_get_their_states_back() -> None:
    class Holder:
        pass

    holder, inner = Holder(), Holder()
    inner.drawn = [random.Random(1), np.random.default_rng(1), np.random.RandomState(1)]
    holder.transform, holder.generator, holder.itself = inner, torch.Generator(), holder

    def draw() -> tuple[float, ...]:
        own, numpys, old = inner.drawn
        return (
            own.random(),
            numpys.random(),
            old.rand(),
            torch.rand(1, generator=holder.generator).item(),
        )

    with kept_generators(holder):
        first = draw()
    assert draw() == first
