import copy

import pytest
import torch
from models import TinyResNet, batches, images
from torch import nn

from refiner.search.norm_shift import NormShift
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.evaluation import recalibrate
from refiner.training.task import Classification

CPU = Devices.choose("cpu")


def made() -> tuple[nn.Module, Supernet]:
    """Return a network with statistics of its own, far from those of any data, and a supernet."""
    torch.manual_seed(7)
    model = TinyResNet().eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)
    return model, Supernet(model, search_space(model, images(), granularity="group")).eval()


def shifted(net: Supernet, vector: tuple[int, ...], shift: NormShift) -> nn.Module:
    """Return a path with corrected statistics."""
    if not shift.measured:
        net.select((0,) * len(vector))
        recalibrate(net.model, batches(2), Classification(), CPU)
        shift.measure()
    net.select(vector)
    shift.correct(recalibrate(net.model, batches(2), Classification(), CPU))
    return net.emit(vector).eval()


def test_the_zero_vector_equals_the_original_after_any_other() -> None:
    model, net = made()
    shift = NormShift(net)
    for vector in [(0, 0), (2, 1), (0, 0)]:
        network = shifted(net, vector, shift)
    x = images(4)
    with torch.no_grad():
        assert torch.allclose(network(x), model(x), atol=1e-5)
    assert network.bn.running_var.tolist() == pytest.approx(model.bn.running_var.tolist(), rel=1e-5)


def test_a_candidate_that_shifts_and_scales_its_conv_gives_the_same_output() -> None:
    model, net = made()
    index = net.candidates[1].index("depthwise3x3")
    last = net.space.slots[1].sites[-1]
    mixed = net.mixed(last.conv)
    mixed.operations[index] = nn.Sequential(copy.deepcopy(mixed.operations[0]))
    mixed.operations[index][0].weight.data *= 3
    first = net.mixed(net.space.slots[1].sites[0].conv)
    first.operations[index] = first.operations[0]
    network = shifted(net, (0, index), NormShift(net))
    x = images(4)
    with torch.no_grad():
        assert torch.allclose(network(x), model(x), atol=2e-3)


def test_own_statistics_are_put_back() -> None:
    model, net = made()
    shift = NormShift(net)
    shifted(net, (1, 1), shift)
    recalibrate(net.model, batches(2), Classification(), CPU)
    shift.restore()
    state = net.emit((0, 0)).state_dict()
    for name, value in model.state_dict().items():
        if "running" in name:
            assert torch.equal(state[name], value)


def test_norms_of_pruned_channels_keep_what_they_have_seen() -> None:
    _, net = made()
    index = next(k for k, name in enumerate(net.candidates[1]) if name.startswith("keep"))
    inner = net.mixed(net.space.slots[1].sites[0].norm).operations[index]
    shift = NormShift(net)
    shifted(net, (0, index), shift)
    before = inner.running_mean.clone()
    shift.correct([inner])
    assert torch.equal(inner.running_mean, before)
