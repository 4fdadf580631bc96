import torch
from models import TinyResNet, images
from torch import nn

from refiner.distill.conv_refit import conv_refits
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
        fit.take_target(wanted)
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
