import numpy as np
import pytest
import torch
from torch import nn

from refiner.core.digests import digest, layers_digest, weights_digest


def test_equal_values_have_equal_digests_and_others_differ() -> None:
    values = [
        1, 1.0, "1", True, None, [1], [[1]], {"a": 1}, {"b": 1}, b"1", np.ones(2), np.ones((2, 1)),
        torch.ones(2), torch.ones(2, 1), torch.ones(2).double(), torch.zeros(2), torch.ones(2, dtype=torch.int64),
    ]  # fmt: skip
    found = [digest(value) for value in values]
    assert found == [digest(value) for value in values]
    assert len(set(found)) == len(values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.complex64, torch.int8])
def test_tensors_of_any_type(dtype) -> None:
    zero, one = torch.zeros(3).to(dtype), torch.ones(3).to(dtype)
    assert digest(zero) != digest(one)
    assert digest(one) == digest(one.clone())
    assert digest(torch.eye(3).to_sparse()) == digest(torch.eye(3).to_sparse())
    assert digest(torch.ones((), dtype=dtype)) == digest(torch.ones((), dtype=dtype))


def test_weights_and_layers() -> None:
    def net(stride: int = 1) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=stride), nn.BatchNorm2d(4))

    assert weights_digest(net()) == weights_digest(net())
    assert layers_digest(net()) != layers_digest(net(stride=2))
    changed = net()
    changed[1].running_mean[3] += 1e-6
    assert weights_digest(changed) != weights_digest(net())
    assert weights_digest(nn.LazyLinear(3)) == weights_digest(nn.LazyLinear(3))
    with torch.device("meta"):
        assert weights_digest(net()) == weights_digest(net())
