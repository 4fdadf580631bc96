import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from refiner.split import stratified


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
