import torch

from refiner.graph.dispatch import autocast_state, convolves, memory_of, reads_number, written

ADD = torch.ops.aten.add.Tensor
ADD_IN_PLACE = torch.ops.aten.add_.Tensor


def test_what_an_operation_writes_to_is_in_its_schema() -> None:
    x, y = torch.zeros(2), torch.ones(2)
    assert written(ADD, (x, y), {}) == []
    assert written(ADD_IN_PLACE, (x, y), {})[0] is x


def test_views_share_their_memory() -> None:
    x = torch.zeros(2, 3)
    assert memory_of(x) == memory_of(x[1]) == memory_of(x.T)
    assert memory_of(x) != memory_of(x.clone())


def test_operations_are_known_by_what_they_do() -> None:
    assert reads_number(torch.ops.aten._local_scalar_dense.default)
    assert not reads_number(ADD)
    assert convolves(torch.ops.aten.convolution.default)
    assert not convolves(ADD)


def test_autocast_is_seen_while_it_is_on() -> None:
    assert autocast_state() == {}
    with torch.autocast("cpu", torch.bfloat16):
        assert autocast_state() == {"cpu": torch.bfloat16}
