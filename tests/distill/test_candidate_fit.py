import pytest
import torch
from torch import nn

from refiner.distill.candidate_fit import (
    LearnedFit,
    LeastSquaresFit,
    LowRankFit,
    relative_error,
    rows,
)
from refiner.space.operations import LowRank
from refiner.training.devices import Devices

DEVICES = Devices.choose("cpu", "no")


def test_the_error_by_hand() -> None:
    y = torch.tensor([[[0.0, 2.0]], [[4.0, 6.0]]])  # one channel, variance 5
    assert float(relative_error(y + 3, y, centred=False)) == pytest.approx(9 / 5)
    assert float(relative_error(y + 3, y, centred=True)) == 0.0


def test_rows_are_positions_in_double_precision() -> None:
    x = torch.arange(12.0).reshape(2, 3, 2)
    expected = [[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11]]
    assert torch.equal(rows(x), torch.tensor(expected, dtype=torch.float64))


def test_least_squares_over_several_batches_equals_one_over_all() -> None:
    x, y = torch.randn(6, 3, 5, 5), torch.randn(6, 4, 5, 5)
    weights = []
    for parts in ([slice(0, 6)], [slice(0, 2), slice(2, 6)]):
        pointwise = nn.Conv2d(3, 4, 1)
        fit = LeastSquaresFit("conv", pointwise, pointwise, centred=False)
        for part in parts:
            fit.accumulate(x[part], rows(y[part]))
        fit.solve(DEVICES)
        weights.append(pointwise.weight.detach())
        assert fit.parameters() == []
    assert torch.allclose(*weights, atol=1e-6)


def test_solving_starts_new_sums() -> None:
    pointwise, conv = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
    fit = LeastSquaresFit("conv", pointwise, pointwise, centred=False)
    x = torch.randn(6, 3, 5, 5)
    with torch.no_grad():
        for target in (torch.randn(6, 4, 5, 5), conv(x)):
            fit.accumulate(x, rows(target))
            fit.solve(DEVICES)
        assert float(fit.error(x, conv(x))) < 1e-6


def test_low_rank_of_full_rank_is_the_conv() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    operation = LowRank(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 1))
    fit, x = LowRankFit("conv", conv, operation, centred=False), torch.randn(4, 3, 6, 6)
    with torch.no_grad():
        fit.accumulate(x, rows(conv(x)))
        fit.solve(DEVICES)
        assert float(fit.error(x, conv(x))) < 1e-6
    assert fit.parameters() == []


def test_a_learned_candidate_leaves_frozen_parameters_out() -> None:
    operation = nn.Conv2d(3, 4, 3, padding=1)
    operation.bias.requires_grad_(False)
    assert LearnedFit(operation, centred=False).parameters() == [operation.weight]


def test_each_channel_counts_by_its_own_variance() -> None:
    y = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])  # variances 1 and 4
    assert float(relative_error(y + 1, y, centred=False)) == pytest.approx((1 + 1 / 4) / 2)


@pytest.mark.parametrize("bias", [True, False])
def test_a_low_rank_conv_has_the_means_of_the_conv(bias: bool) -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1, bias=bias)
    operation = LowRank(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 1))
    fit, x = LowRankFit("conv", conv, operation, centred=False), 5 + torch.randn(4, 3, 6, 6)
    with torch.no_grad():
        fit.accumulate(x, rows(conv(x)))
        fit.solve(DEVICES)
        assert torch.allclose(operation(x), conv(x), atol=1e-3)


def test_with_a_bias_the_components_are_those_of_the_deviations() -> None:
    conv = nn.Conv2d(2, 3, 1)
    with torch.no_grad():  # one direction of deviations, and large means in another
        conv.weight.copy_(torch.tensor([[1.0, 0], [2.0, 0], [-1.0, 0]])[:, :, None, None])
        conv.bias.copy_(torch.tensor([50.0, -10.0, 30.0]))
    operation = LowRank(nn.Conv2d(2, 1, 1, bias=False), nn.Conv2d(1, 3, 1))
    fit, x = LowRankFit("conv", conv, operation, centred=False), torch.randn(8, 2, 5, 5)
    with torch.no_grad():
        fit.accumulate(x, rows(conv(x)))
        fit.solve(DEVICES)
        assert torch.allclose(operation(x), conv(x), atol=1e-2)
