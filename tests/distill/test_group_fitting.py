import pytest
import torch
from models import PRUNING_CANDIDATES, TinyResNet, images
from torch import nn

from refiner.core.errors import TrainingError
from refiner.core.surgery import copied
from refiner.distill.distillation import DistillConfig, distill
from refiner.distill.group_fitting import InnerChannels
from refiner.distill.patches import PatchSums
from refiner.graph.conv_spec import conv_spec
from refiner.graph.slots import ConvSite
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.evaluation import recalibrate
from refiner.training.task import make_task

DEVICES = Devices.choose("cpu", "no")
BATCHES = [(images(count=16, seed=i), torch.zeros(16, dtype=torch.long)) for i in range(4)]


class ChannelGroup(nn.Module):
    """A stem and two convs, two of whose eight channels between them are copies of others."""

    def __init__(self, *, bias: bool, norm: bool) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 6, 3, bias=bias)
        self.last = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.head = nn.Linear(6, 2)
        with torch.no_grad():
            for kept, copy in ((0, 5), (3, 6)):
                self.first.weight[copy] = self.first.weight[kept]
                self.first.bias[copy] = self.first.bias[kept]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.first(self.stem(x))).relu()
        output: torch.Tensor = self.head(self.last(self.second(y)).relu().mean((2, 3)))
        return output


def distilled(model: nn.Module, seed: int = 0):
    space = search_space(model, BATCHES[0][0], granularity="group", candidates=PRUNING_CANDIDATES)
    net = Supernet(model, space, seed=seed)
    config = DistillConfig(steps=5, solve_batches=4)
    task = make_task("classification")
    errors = distill(net, BATCHES, task, devices=DEVICES, config=config, seed=seed)
    return net, errors


@pytest.mark.parametrize(("bias", "norm"), [(True, False), (False, False), (False, True)])
def test_redundant_channels_are_pruned_at_no_loss(bias: bool, norm: bool) -> None:
    model = ChannelGroup(bias=bias, norm=norm).eval()
    net, errors = distilled(model)
    six = net.candidates[0].index("keep0.75")
    net.select((six,))
    assert errors["second"]["keep0.75"] < 1e-4
    pruned = net.mixed("second").operations[six]
    assert pruned.weight.shape == (6, 6, 3, 3)
    for each in (net, model):  # the length of weights before a norm is another
        recalibrate(each, BATCHES, make_task("classification"), DEVICES)
    x = images(count=8, seed=9)
    assert torch.allclose(net(x), model(x), atol=5e-3)


def test_errors_grow_as_channels_go() -> None:
    _, errors = distilled(TinyResNet(width=8).eval())
    assert set(errors["block1.conv2"]) == set(PRUNING_CANDIDATES)
    for name in ("block1.conv2", "block2.conv2"):
        values = [errors[name][pruning] for pruning in PRUNING_CANDIDATES]
        assert values == sorted(values)
        assert 0 < values[0] < values[-1] < 1
    assert errors["block1.conv1"] == {}


def test_a_distilled_pruning_is_nearer_than_one_by_the_weights_alone() -> None:
    off = [0.0, 0.0]
    x, task = images(count=32, seed=5), make_task("classification")
    for seed in range(4):
        torch.manual_seed(seed)
        model = TinyResNet(width=8)
        recalibrate(model, BATCHES, task, DEVICES)
        net, _ = distilled(model.eval())
        vector = tuple(names.index("keep0.5") for names in net.candidates)
        for i, each in enumerate((net, Supernet(model, net.space))):
            each.eval()
            each.select(vector)
            recalibrate(each, BATCHES, task, DEVICES)
            off[i] += float((each(x) - model(x)).square().mean().detach())
    assert off[0] < 0.9 * off[1]


def test_weights_before_a_norm_are_as_long_as_the_originals_were() -> None:
    model = TinyResNet(width=8).eval()
    net, _ = distilled(model)
    four = net.candidates[0].index("keep0.5")
    first, second = (net.mixed(f"block1.conv{i}").operations[four].weight for i in (1, 2))
    kept = torch.cdist(first.flatten(1), model.block1.conv1.weight.flatten(1)).argmin(1)
    was = model.block1.conv2.weight[:, kept]
    assert torch.allclose(second.flatten(1).norm(dim=1), was.flatten(1).norm(dim=1), rtol=1e-4)
    assert not torch.allclose(second, was, atol=1e-2)


def test_the_norm_after_a_pruning_has_the_statistics_of_what_it_is_given() -> None:
    model, task = TinyResNet(width=8), make_task("classification")
    recalibrate(model, BATCHES, task, DEVICES)
    net, _ = distilled(model.eval())
    pruned = net.candidates[0].index("keep0.375")
    norm = net.mixed("block1.bn2").operations[pruned]
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    assert not torch.allclose(var, model.block1.bn2.running_var, rtol=0.02)
    net.select((pruned, 0))
    recalibrate(net, BATCHES, task, DEVICES)
    assert torch.allclose(mean, norm.running_mean, atol=0.02 * float(var.max().sqrt()))
    assert torch.allclose(var, norm.running_var, rtol=0.05)


def test_originals_stay_and_the_seed_fixes_all() -> None:
    model = TinyResNet(width=8).eval()
    before = copied(model)
    first, second = distilled(model)[0], distilled(model)[0]
    x = images()
    first.select((0, 0))
    assert torch.equal(first(x), before(x))
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_an_input_that_is_not_finite_is_refused() -> None:
    model = TinyResNet(width=8).eval()
    model.block1.bn1.bias.data[0] = float("nan")
    with pytest.raises(TrainingError, match="block1.conv"):
        distilled(model)


@pytest.mark.parametrize(("bias", "kept"), [(True, [0, 1]), (False, [1, 2])])
def test_a_constant_channel_goes_first_where_a_bias_makes_up_for_it(bias: bool, kept) -> None:
    conv = nn.Conv2d(3, 2, 1, bias=bias)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[0.5, 1.0, 3.0], [0.5, -1.0, 3.0]])[:, :, None, None])
    x = images(count=8)
    x[:, 2] = 5 + 0.01 * x[:, 2]
    shape = (8, 3, 8, 8)
    site = ConvSite(
        conv="c", norm=None, spec=conv_spec(conv), in_shape=shape, out_shape=(8, 2, 8, 8)
    )
    sums = PatchSums("c", site.spec, seed=0)
    inner = InnerChannels(site, conv, None, sums, {2})
    sums.add(x, conv(x).detach())
    inner.solve(DEVICES)
    found = inner.found[2]
    assert found.kept.tolist() == kept
    if bias:
        assert torch.allclose(found.conv(x), conv(x), atol=0.3)
        assert found.error < 1e-3


class GroupNormed(ChannelGroup):
    """The norm after the conv that reads the inner channels keeps no statistics."""

    def __init__(self) -> None:
        super().__init__(bias=False, norm=False)
        self.last = nn.GroupNorm(2, 6)


def test_a_norm_without_statistics_stays_as_it_is() -> None:
    model = GroupNormed().eval()
    nn.init.uniform_(model.last.weight)
    net, errors = distilled(model)
    six = net.candidates[0].index("keep0.75")
    assert errors["second"]["keep0.75"] < 1e-4
    net.select((six,))
    x = images(count=8, seed=9)
    assert torch.allclose(net(x), model(x), atol=5e-3)


def test_a_norm_after_a_biased_conv_has_the_mean_with_the_bias() -> None:
    model, task = ChannelGroup(bias=True, norm=True), make_task("classification")
    nn.init.constant_(model.second.bias, 3.0)
    recalibrate(model, BATCHES, task, DEVICES)
    net, _ = distilled(model.eval())
    pruned = net.candidates[0].index("keep0.5")
    mean = net.mixed("last").operations[pruned].running_mean.clone()
    net.select((pruned,))
    recalibrate(net, BATCHES, task, DEVICES)
    assert torch.allclose(mean, net.mixed("last").operations[pruned].running_mean, atol=0.05)


class Inverted(nn.Module):
    """A conv alone, and a group with a depthwise conv in its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.alone = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.expand, self.project = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.alone(x).relu()
        x = x + self.project(self.depthwise(self.expand(x).relu()).relu())
        return x.mean((2, 3))


def test_the_conv_that_reads_the_channels_is_refitted_also_behind_a_depthwise_conv() -> None:
    model = Inverted().eval()
    space = search_space(
        model, BATCHES[0][0], granularity="group", candidates=["keep0.5", "depthwise3x3"]
    )
    net = Supernet(model, space)
    task = make_task("classification")
    errors = distill(net, BATCHES, task, devices=DEVICES, config=DistillConfig(steps=0))
    assert {name: set(row) for name, row in errors.items() if "keep0.5" in row} == {
        "project": {"keep0.5"}
    }
    assert [slot.name for slot in space.slots][0] == "alone"


class Cardinal(nn.Module):
    """A grouped conv between two dense ones, two of whose four groups are not read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 1)
        self.grouped, self.last = nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.Conv2d(8, 4, 1)
        with torch.no_grad():
            self.last.weight[:, [2, 3, 7]] = 0
            self.last.weight[:, 6] *= 0.01

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return (x + self.last(self.grouped(self.first(x).relu()).relu())).mean((2, 3))


def test_whole_groups_go_where_a_grouped_conv_is_in_between() -> None:
    torch.manual_seed(0)
    model = Cardinal().eval()
    space = search_space(
        model, BATCHES[0][0], granularity="group", candidates=["keep0.75", "keep0.5"]
    )
    net = Supernet(model, space)
    task = make_task("classification")
    errors = distill(net, BATCHES, task, devices=DEVICES, config=DistillConfig(steps=0))
    assert errors["last"]["keep0.75"] < 1e-5
    assert errors["last"]["keep0.5"] < 1e-2
    net.select((2,))
    assert torch.equal(net.mixed("grouped").active.weight, model.grouped.weight[[0, 1, 4, 5]])
    assert net.mixed("grouped").active.groups == 2
    x = BATCHES[0][0]
    with torch.no_grad():
        assert float((net(x) - model(x)).square().mean()) < 1e-3 * float(model(x).var())
