import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refiner.training.buckets import buckets, replace_by


def test_many_small_tensors_are_one_bucket() -> None:
    tensors = [torch.ones(3), torch.ones(2, 2), torch.ones(())]
    (bucket,) = buckets(tensors)
    assert [id(t) for t in bucket] == [id(t) for t in tensors]


def test_types_and_sizes_are_kept_apart() -> None:
    a, b, c, d = torch.ones(4), torch.ones(4).double(), torch.ones(2), torch.ones(9)
    found = [[t.numel() for t in bucket] for bucket in buckets([a, b, c, d], largest=24)]
    assert found == [[4, 2], [9], [4]] or sorted(found) == [[4], [4, 2], [9]]
    assert list(buckets([])) == []


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 200))
def test_each_tensor_comes_once_in_no_bucket_that_is_too_large(sizes, largest) -> None:
    tensors = [torch.zeros(size) for size in sizes]
    found = list(buckets(tensors, largest))
    assert sorted(id(t) for bucket in found for t in bucket) == sorted(map(id, tensors))
    for bucket in found:
        assert len(bucket) == 1 or sum(4 * t.numel() for t in bucket) <= largest


def test_reduced_numbers_are_written_where_they_were_read() -> None:
    calls = []

    def double(flat):
        calls.append(len(flat))
        return flat * 2

    a, b = torch.arange(6.0).reshape(2, 3), torch.arange(4.0).reshape(2, 2).T
    leaf = torch.ones(2, requires_grad=True)
    replace_by(double, [a, b, leaf])
    assert calls == [12]
    assert a.tolist() == [[0, 2, 4], [6, 8, 10]]
    assert b.tolist() == [[0, 4], [2, 6]]
    assert leaf.tolist() == [2, 2]
