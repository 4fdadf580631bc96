import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from refiner.data.split import members, stratified


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 1000),
)
def test_every_class_is_cut_alike_and_nothing_is_lost(labels, share, seed) -> None:
    array = np.array(labels)
    rest, chosen = stratified(array, share, seed)
    assert sorted([*rest, *chosen]) == list(range(len(labels)))
    for label in set(labels):
        total = labels.count(label)
        taken = int((array[chosen] == label).sum())
        assert taken == min(max(round(share * total), 1), total - 1)


def test_the_seed_decides() -> None:
    labels = np.zeros(100, dtype=int)
    picks = [stratified(labels, 0.2, seed)[1].tolist() for seed in (0, 0, 1)]
    assert picks[0] == picks[1] != picks[2]
    assert len(picks[0]) == 20


@given(st.lists(st.integers(-2, 6), max_size=60), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_draws_are_those_of_a_search_for_each_class(labels, share, seed) -> None:
    array = np.array(labels, dtype=int)
    plain = [np.flatnonzero(array == label) for label in sorted(set(labels))]
    assert [part.tolist() for part in members(array) if len(part)] == [p.tolist() for p in plain]
    generator, taken = np.random.default_rng(seed), []
    for part in plain:
        count = min(max(round(share * len(part)), 1), len(part) - 1)
        taken += generator.permutation(part)[:count].tolist()
    assert stratified(array, share, seed)[1].tolist() == sorted(taken)


def test_many_classes_are_split_in_no_time() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(30_000), 10))
    begun = time.process_time()
    _, chosen = stratified(labels, 0.2, 0)
    assert len(chosen) == 60_000
    assert time.process_time() - begun < 3, "a search for each class takes ten times as long"
