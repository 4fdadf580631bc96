import copy

import torch
from models import images
from torch import nn

from refiner.distill.front_to_back import FrontToBack
from refiner.distill.norm_refit import NormRefit, norm_refits
from refiner.space.rewriting import rewrite
from refiner.space.search_space import SearchSpace, search_space
from refiner.training.devices import Devices
from refiner.training.task import Classification

CPU = Devices.choose("cpu", "no")
BATCHES = [(images(count=64, seed=i), torch.zeros(64, dtype=torch.long)) for i in range(3)]


class Inverted(nn.Module):
    """An inverted residual without an addition, whose depthwise conv no closed form fits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.expand = nn.Conv2d(6, 32, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.project = nn.Conv2d(32, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.expand(self.stem(x))))
        return self.project(torch.relu(self.bn2(self.depthwise(x)))).mean((2, 3))


def trained() -> tuple[nn.Module, SearchSpace]:
    torch.manual_seed(0)
    model = Inverted()
    with torch.no_grad():
        for x, _labels in BATCHES * 20:
            model.train()(x)
    space = search_space(model.eval(), BATCHES[0][0], granularity="group", candidates=("keep0.5",))
    return model, space


def test_statistics_by_hand() -> None:
    norm, theirs = nn.BatchNorm2d(1), nn.BatchNorm2d(2)
    theirs.running_mean.copy_(torch.tensor([9.0, 1.0]))
    theirs.running_var.copy_(torch.tensor([9.0, 4.0]))
    each = NormRefit(norm, theirs, torch.tensor([1]))
    each.take(torch.tensor([[[[5.0]], [[0.0]]], [[[5.0]], [[4.0]]]]))  # mean 2, variance 4
    x = torch.tensor([[[[3.0]]], [[[9.0]]]])  # mean 6, variance 9
    each.set(x.repeat(64, 1, 1, 1), CPU)
    assert norm.running_mean.tolist() == [0.0]  # too few
    each.set(x.repeat(128, 1, 1, 1), CPU)
    assert norm.running_mean.tolist() == [5.0]
    assert torch.allclose(norm.running_var, torch.tensor([9.0]))


def test_a_norm_that_is_called_twice_stays_as_it_is() -> None:
    norm = nn.BatchNorm2d(1)
    each = NormRefit(norm, nn.BatchNorm2d(1), None)
    for _ in range(2):
        each.take(torch.randn(4, 1, 2, 2))
    each.set(3 + torch.randn(400, 1, 2, 2), CPU)
    assert norm.running_mean.tolist() == [0.0]


def test_norms_behind_grouped_convs_are_found_with_the_channels_that_they_keep() -> None:
    model, space = trained()
    whole = norm_refits(copy.deepcopy(model), model, space, set())
    assert [each.theirs for each in whole] == [model.bn1, model.bn2]
    assert all(each.kept is None for each in whole)
    network = rewrite(model, space.architecture([1]))
    kept = torch.arange(31, 0, -2)
    with torch.no_grad():
        network.expand.weight.copy_(model.expand.weight[kept])
        network.depthwise.weight.copy_(model.depthwise.weight[kept])
    (found,) = norm_refits(network, model, space, {network.bn1})
    assert found.norm is network.bn2
    assert found.kept is not None
    assert torch.equal(found.kept, kept)
    nn.init.zeros_(network.depthwise.weight)  # filters of nobody
    assert not norm_refits(network, model, space, {network.bn1})


def test_statistics_follow_what_convs_before_were_fitted_to() -> None:
    model, space = trained()
    network = copy.deepcopy(model)
    with torch.no_grad():
        network.expand.weight.mul_(0.2)
        network.bn2.running_mean.copy_(model.bn2.running_mean * 0.2)  # of the wrong input
        network.bn2.running_var.mul_(0.04)
    FrontToBack(model, space, BATCHES, Classification(), devices=CPU).fit(network)
    for name in ("running_mean", "running_var"):
        ours, theirs = getattr(network.bn2, name), getattr(model.bn2, name)
        assert torch.allclose(ours, theirs, rtol=0.05, atol=0.05)
    with torch.no_grad():
        x = images(count=16, seed=5)
        assert float((network.eval()(x) - model(x)).square().mean()) < 1e-4


def test_hooks_are_taken_off() -> None:
    model, space = trained()
    network = copy.deepcopy(model)
    FrontToBack(model, space, BATCHES, Classification(), devices=CPU).fit(network)
    assert not any(m._forward_pre_hooks for m in (*model.modules(), *network.modules()))
