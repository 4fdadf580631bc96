import itertools

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from refiner.core.errors import DataError
from refiner.training.passes import endless, length


def test_length_needs_batches() -> None:
    assert length([1, 2]) == 2
    with pytest.raises(DataError, match="gives no batch"):
        length([])
    with pytest.raises(DataError, match="has no len"):
        length(iter([1]))


def test_passes_follow_each_other_each_in_an_order_of_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(
        TensorDataset(torch.arange(20)), batch_size=10, shuffle=True, generator=generator
    )
    taken = [batch[0] for batch in itertools.islice(endless(loader), 5)]
    first, second = torch.cat(taken[:2]), torch.cat(taken[2:4])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert not torch.equal(first, second)


def test_no_batch_is_refused_instead_of_an_endless_wait() -> None:
    with pytest.raises(DataError, match="no batch"):
        next(endless([]))
