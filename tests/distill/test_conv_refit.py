import copy

import pytest
import torch
from models import TinyResNet, images
from torch import nn

from refiner.distill.conv_refit import ConvRefit, conv_refits
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space
from refiner.training.devices import Devices


def test_the_last_dense_conv_of_each_operation_is_fitted() -> None:
    model = TinyResNet().eval()
    space = search_space(model, images(), candidates=("depthwise3x3", "lowrank4"))
    names = [row.index("depthwise3x3") for row in space.candidates]
    network = rewrite(model, space.architecture(names))
    fits = conv_refits(network, model, space, 0)
    assert fits
    for fit in fits:
        assert fit.conv is list(network.get_submodule(fit.name))[-1]
        assert fit.kept is None
        assert fit.norm is fit.end


def test_a_silent_channel_of_a_norm_stays_finite() -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        model[2].weight[0] = 0
    space = search_space(model, images())
    network = rewrite(model, space.architecture([0]))
    (fit,) = conv_refits(network, model, space, 0)
    with torch.no_grad():
        x = model[0](images(count=16))
        wanted = model[1:](x)
        network[1].weight += 0.1
        fit.target = fit.target_of(wanted)
        fit.solve(x, None, Devices.choose("cpu", "no"))
        assert torch.allclose(network[1:](x), wanted, atol=1e-3)
        assert float(network[1].weight.abs().max()) < 10


def test_a_merged_conv_is_fitted_in_place_of_the_last_one() -> None:
    model = TinyResNet().eval()
    names = ("merged3x3", "merged_depthwise3x3")
    space = search_space(model, images(), granularity="group", candidates=names)
    network = rewrite(model, space.architecture([1, 2]))
    first, second = conv_refits(network, model, space, 0)
    assert (first.name, second.name) == ("block1.conv2", "block2.conv2")
    assert first.conv is network.block1.conv2
    assert second.conv is network.block2.conv2[-1]
    for fit, block in ((first, network.block1), (second, network.block2)):
        assert fit.kept is None
        assert fit.norm is fit.end is block.bn2


def pair(bias: bool = True) -> tuple[nn.Module, nn.Module, list[ConvRefit]]:
    """Return a model of two convs, an equal network, and the fits of its slots."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 3, bias=bias)).eval()
    space = search_space(model, images())
    network = copy.deepcopy(model)
    return model, network, conv_refits(network, model, space, 0)


def solve(model: nn.Module, network: nn.Module, fit: ConvRefit, x: torch.Tensor) -> float:
    """Fit the last conv, and return the mean squared error of the network."""
    with torch.no_grad():
        fit.target = fit.target_of(model(x))
        fit.solve(network[:2](x), None, Devices.choose("cpu", "no"))
        return float((network(x) - model(x)).square().mean())


def test_a_wrong_offset_alone_is_mended() -> None:
    model, network, fits = pair()
    with torch.no_grad():
        network[2].bias += 3
    assert solve(model, network, fits[-1], images(count=64)) < 1e-6
    assert fits[-1].errors is not None
    assert fits[-1].errors[0] > 1 > fits[-1].errors[1]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_samples_are_enough_for_a_gain_that_is_large(count: int) -> None:
    model, network, fits = pair()
    with torch.no_grad():
        network[2].weight *= 0.6
    x = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert solve(model, network, fits[-1], x) < 1e-4


def test_a_fit_that_samples_held_out_are_none_the_better_for_changes_nothing() -> None:
    model, network, fits = pair()
    x = images(count=40)
    before = copy.deepcopy(network.state_dict())
    noise = torch.randn(40, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        target = model(x)
        fits[-1].target = fits[-1].target_of(target + noise - noise.mean((0, 2, 3), keepdim=True))
        fits[-1].solve(network[:2](x), None, Devices.choose("cpu", "no"))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert fits[-1].errors is not None
    assert fits[-1].errors[0] == fits[-1].errors[1]


@pytest.mark.parametrize("equal", [False, True])
def test_a_narrower_conv_follows_the_filters_that_it_holds(equal: bool) -> None:
    torch.manual_seed(0)
    model = TinyResNet().eval()
    conv = model.block1.conv1
    with torch.no_grad():
        if equal:  # nobody can know which of them a narrower conv holds
            conv.weight[3] = conv.weight[1]
    space = search_space(model, images(), granularity="group", candidates=("keep0.5",))
    network = rewrite(model, space.architecture([1, 0]))
    with torch.no_grad():
        network.block1.conv1.weight.copy_(conv.weight[[2, 0]])
    kept = {fit.name: fit.kept for fit in conv_refits(network, model, space, 0)}
    if equal:
        assert "block1.conv1" not in kept
    else:
        assert kept["block1.conv1"].tolist() == [2, 0]
    assert kept["block1.conv2"] is None
