import pytest
import torch
from torch import nn

from refiner.distill.candidate_fit import LearnedFit, relative_error
from refiner.distill.fitting import ConvFit
from refiner.distill.sum_table import SumTable
from refiner.space.operations import LowRank
from refiner.training.devices import Devices

DEVICES = Devices.choose("cpu", "no")


def fitted(conv, operation, *parts, centred=False, held_out=()):
    """Fit an operation to a conv on some inputs, and return its fit."""
    table = SumTable(rows_per_feature=30, batches=1, seed=0)
    fit = ConvFit("conv", conv, {"operation": operation}, table, centred=centred)
    (part,) = table.parts()
    with torch.no_grad():
        for x in parts:
            part[0].add(x, conv(x))
        for x in held_out:
            part[0].add_held_out(x, conv(x))
    found = fit.fits["operation"]
    found.solve(DEVICES)
    part[0].clear()
    return found


def low_rank(bias=True, inputs=3, rank=2, outputs=4, kernel=3):
    reduce = nn.Conv2d(inputs, rank, kernel, padding=kernel // 2, bias=False)
    return LowRank(reduce, nn.Conv2d(rank, outputs, 1, bias=bias))


def test_the_error_by_hand() -> None:
    y = torch.tensor([[[0.0, 2.0]], [[4.0, 6.0]]])  # one channel, variance 5
    assert float(relative_error(y + 3, y, centred=False)) == pytest.approx(9 / 5)
    assert float(relative_error(y + 3, y, centred=True)) == 0.0


def test_each_channel_counts_by_its_own_variance() -> None:
    y = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])  # variances 1 and 4
    assert float(relative_error(y + 1, y, centred=False)) == pytest.approx((1 + 1 / 4) / 2)


def test_least_squares_over_several_batches_equals_one_over_all() -> None:
    x, conv = torch.randn(6, 3, 5, 5), nn.Conv2d(3, 4, 3, padding=1)
    weights = []
    for parts in ([x], [x[:2], x[2:]]):
        pointwise = nn.Conv2d(3, 4, 1)
        fit = fitted(conv, pointwise, *parts)
        weights.append(pointwise.weight.detach())
        assert fit.parameters() == []
    assert torch.allclose(*weights, atol=1e-5)


@pytest.mark.parametrize("operation", [nn.Conv2d(3, 4, 1), low_rank()], ids=["pointwise", "rank"])
def test_the_errors_are_those_of_the_candidate(operation: nn.Module) -> None:
    x, other = torch.randn(40, 3, 8, 8), 2 * torch.randn(10, 3, 8, 8)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    fit = fitted(conv, operation, x, held_out=[other])
    with torch.no_grad():
        y = conv(torch.cat([x, other]))
        variance = y.var((0, 2, 3), correction=0, keepdim=True)
        square = ((operation(torch.cat([x, other])) - y).square() / variance).mean((1, 2, 3))
    assert fit.fit_error == pytest.approx(float(square[:40].mean()), rel=0.08)
    assert fit.error == pytest.approx(float(square[40:].mean()), rel=0.08)
    assert fit.error > 1.5 * fit.fit_error


def test_low_rank_of_full_rank_is_the_conv() -> None:
    conv, x = nn.Conv2d(3, 4, 3, padding=1), torch.randn(4, 3, 6, 6)
    operation = low_rank(rank=4)
    fit = fitted(conv, operation, x)
    with torch.no_grad():
        assert float(relative_error(operation(x), conv(x), centred=False)) < 1e-6
    assert fit.error < 1e-6
    assert fit.parameters() == []


def test_a_learned_candidate_leaves_frozen_parameters_out() -> None:
    operation = nn.Conv2d(4, 4, 3, padding=1, groups=2)
    operation.bias.requires_grad_(False)
    assert LearnedFit(operation, centred=False).parameters() == [operation.weight]


@pytest.mark.parametrize("bias", [True, False])
def test_a_low_rank_conv_has_the_means_of_the_conv(bias: bool) -> None:
    conv, x = nn.Conv2d(3, 4, 3, padding=1, bias=bias), 5 + torch.randn(4, 3, 6, 6)
    operation = low_rank(rank=4)
    fitted(conv, operation, x)
    with torch.no_grad():
        assert torch.allclose(operation(x), conv(x), atol=1e-3)


def test_with_a_bias_the_components_are_those_of_the_deviations() -> None:
    conv = nn.Conv2d(2, 3, 1)
    with torch.no_grad():  # one direction of deviations, and large means in another
        conv.weight.copy_(torch.tensor([[1.0, 0], [2.0, 0], [-1.0, 0]])[:, :, None, None])
        conv.bias.copy_(torch.tensor([50.0, -10.0, 30.0]))
    operation, x = low_rank(inputs=2, rank=1, outputs=3, kernel=1), torch.randn(8, 2, 5, 5)
    fitted(conv, operation, x)
    with torch.no_grad():
        assert torch.allclose(operation(x), conv(x), atol=1e-2)


def test_a_conv_with_a_smaller_kernel_is_solved_for() -> None:
    conv, small = nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(3, 4, 3, padding=1)
    with torch.no_grad():  # the border is zero, so that the 3x3 conv can do the same
        conv.weight.mul_(torch.nn.functional.pad(torch.ones(3, 3), (1, 1, 1, 1)))
    fitted(conv, small, torch.randn(8, 3, 9, 9))
    assert torch.allclose(small.weight, conv.weight[:, :, 1:4, 1:4], atol=1e-3)
    assert torch.allclose(small.bias, conv.bias, atol=1e-3)
