import pytest
import torch
from torch import nn

from refiner.core.errors import TrainingError
from refiner.distill.fitting import Place
from refiner.training.devices import Devices

DEVICES = Devices.choose("cpu", "no")


def place(conv: nn.Module, **operations: nn.Module) -> Place:
    return Place("here", conv, operations, centred=False)


def test_an_error_is_in_units_of_the_variance_of_what_the_conv_gives() -> None:
    conv = nn.Conv2d(2, 2, 1, bias=False)
    zero, same = nn.Conv2d(2, 2, 1, bias=False), nn.Conv2d(2, 2, 1, bias=False)
    with torch.no_grad():
        zero.weight.zero_()
        same.weight.copy_(conv.weight)
    x = torch.randn(8, 2, 6, 6)
    x -= x.mean((0, 2, 3), keepdim=True)  # then zero is as good as the mean
    where = place(conv, zero=zero, same=same)
    where.measure(x, conv(x).detach())
    errors = where.errors(DEVICES)
    assert errors["zero"] == pytest.approx(1.0, abs=1e-4)
    assert errors["same"] == 0.0


def test_a_pointwise_conv_is_solved_for_and_what_is_before_it_learns() -> None:
    conv = nn.Conv2d(3, 4, 1, bias=True)
    pointwise = nn.Conv2d(3, 4, 1)
    group = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.Conv2d(3, 4, 1))
    where = place(conv, pointwise=pointwise, group=group)
    assert where.learned() == list(group.parameters())
    x = torch.randn(4, 3, 9, 9)
    where.accumulate(x, conv(x).detach())
    where.solve(DEVICES)
    assert torch.allclose(pointwise.weight, conv.weight, atol=1e-3)
    assert torch.allclose(pointwise.bias, conv.bias, atol=1e-3)
    where.descend(x, conv(x).detach())
    assert group[0].weight.grad is not None
    assert pointwise.weight.grad is None


def test_what_is_not_finite_is_told() -> None:
    conv = nn.Conv2d(2, 2, 1)
    where = place(conv, pointwise=nn.Conv2d(2, 2, 1))
    where.accumulate(torch.ones(1, 2, 3, 3), torch.full((1, 2, 3, 3), float("nan")))
    with pytest.raises(TrainingError, match="here"):
        where.solve(DEVICES)
