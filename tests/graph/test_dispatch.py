import torch

from refiner.graph.dispatch import convolves, memory_of, parts_of, reads_number, written

ATEN = torch.ops.aten


def test_an_operation_writes_to_what_its_schema_says() -> None:
    x, y = torch.zeros(2), torch.ones(2)
    assert written(ATEN.add.Tensor, (x, y), {}) == []
    (changed,) = written(ATEN.add_.Tensor, (x, y), {})
    assert changed is x
    (out,) = written(ATEN.add.out, (x, y), {"out": y})
    assert out is y


def test_views_share_their_memory() -> None:
    x = torch.zeros(4)
    assert memory_of(x) == memory_of(x[1:]) != memory_of(x.clone())


def test_kinds_of_operations() -> None:
    assert reads_number(ATEN._local_scalar_dense.default)
    assert not reads_number(ATEN.add.Tensor)
    assert convolves(ATEN.convolution.default)
    assert not convolves(ATEN.mm.default)


def test_parts_are_tensors_with_the_steps_to_them() -> None:
    x = torch.zeros(2)
    ((steps, part),) = parts_of({"a": [x, 1]})
    assert part is x
    assert [key for _, key in steps] == ["a", 0]
