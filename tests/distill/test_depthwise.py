import pytest
import torch
import torch.nn.functional as F
from torch import nn

from refiner.distill.fitting import ConvFit
from refiner.distill.sum_table import SumTable
from refiner.graph.conv_spec import conv_spec
from refiner.space.operations import build_depthwise
from refiner.training.devices import Devices

DEVICES = Devices.choose("cpu", "no")


def fitted(conv: nn.Module, x: torch.Tensor, kernel: int = 3):
    operation = build_depthwise(conv_spec(conv), kernel=kernel)
    table = SumTable(rows_per_feature=200, batches=1, seed=0)
    fit = ConvFit("conv", conv, {"depthwise": operation}, table, centred=False).fits["depthwise"]
    with torch.no_grad():
        fit.sums.add(x, conv(x))
    assert fit.parameters() == []
    fit.solve(DEVICES)
    return operation, fit


def separable(conv: nn.Module) -> nn.Module:
    """Give a conv the weight of a depthwise conv and a pointwise conv."""
    outputs, channels, *kernel = conv.weight.shape
    with torch.no_grad():
        kernels = torch.randn(1, channels, *kernel)
        mixing = torch.randn(outputs, channels, *[1] * len(kernel))
        conv.weight.copy_(kernels * mixing)
    return conv


CONVS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1, bias=False),
    "bias": nn.Conv2d(4, 6, 3, padding=1),
    "strided": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "dilated": nn.Conv2d(4, 6, 3, dilation=2, padding=2),
    "reflecting": nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "1d": nn.Conv1d(4, 6, 3, padding=1),
    "padded by a layer of its own": nn.Conv2d(4, 6, 3, padding="same", stride=1, dilation=1),
}


@pytest.mark.parametrize("name", CONVS)
def test_a_depthwise_and_a_pointwise_conv_in_disguise_are_found(name: str) -> None:
    conv = separable(CONVS[name])
    x = torch.randn(64, 4, *[9] * (conv.weight.dim() - 2))
    operation, fit = fitted(conv, x)
    assert fit.error < 1e-4
    with torch.no_grad():
        assert torch.allclose(operation(x), conv(x), atol=0.05 * float(conv(x).std()))


def test_a_larger_kernel_is_padded_by_a_layer_of_its_own() -> None:
    conv = separable(
        nn.Conv2d(4, 6, 2, padding=0, bias=False)
    )  # a 5x5 kernel needs padding 1 and 2
    x = torch.randn(64, 4, 9, 9)
    operation, fit = fitted(conv, x, kernel=5)
    assert len(operation) == 3
    assert fit.error < 1e-4
    with torch.no_grad():
        assert torch.allclose(operation(x), conv(x), atol=0.05 * float(conv(x).std()))


def test_rounds_of_least_squares_beat_a_step_of_descent_from_them() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, 3, padding=1, bias=False)
    x = F.avg_pool2d(torch.randn(64, 6, 16, 16), 3, 1, 1)
    operation, fit = fitted(conv, x)
    assert 0.05 < fit.error < 0.5
    y = conv(x).detach()
    for _ in range(30):  # descent from the closed form finds hardly any more
        optimizer = torch.optim.SGD(operation.parameters(), lr=0.1)
        loss = (operation(x) - y).square().mean() / y.var()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) > 0.95 * fit.fit_error
