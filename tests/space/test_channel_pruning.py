import random

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import TinyResNet, images, run_seeded
from pruning import assert_pruned_is_blinded, group_space, warmed
from torch import nn

from refiner.cost.costs import measure_cost, slot_costs
from refiner.space.architecture import Architecture
from refiner.space.channel_pruning import kept_channels, pruned_sites
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        "mobilenetv2_100",
        "densenet121",
        "semnasnet_050",
        "regnety_002",
        "tf_mobilenetv3_small_minimal_100",
    ],
)
def test_a_pruned_network_is_one_that_does_not_read_the_channels(name: str) -> None:
    x = images(size=64)
    torch.manual_seed(0)
    assert_pruned_is_blinded(warmed(timm.create_model(name, drop_rate=0.0), x), x, seed=1)


class RandomGroup(nn.Sequential):
    """Random convs in a row, with norms, activations, pools and grouped convs."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        self.dims = draw.choice([1, 2, 2, 3])
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[self.dims]
        norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[self.dims]
        pool = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[self.dims]
        layers: list[nn.Module] = []
        channels = 3
        for _ in range(draw.randint(3, 5)):
            out, kernel = draw.choice([4, 6, 8, 9]), draw.choice([1, 3, 3])
            bias = draw.random() < 0.5
            mode = draw.choice(["zeros", "reflect", "circular"])
            layers.append(
                conv(channels, out, kernel, padding=kernel // 2, bias=bias, padding_mode=mode)
            )
            channels = out
            if draw.random() < 0.7:
                affine = draw.random() < 0.8
                layers.append(norm(channels, affine=affine))
            layers.append(draw.choice([nn.ReLU, nn.SiLU, nn.PReLU, nn.Identity])())
            if draw.random() < 0.4:  # numbers for each channel that are no norm right after a conv
                layers.append(
                    draw.choice([nn.PReLU, norm, lambda c: nn.Sequential(norm(c), nn.PReLU(c))])(
                        channels
                    )
                )
            if draw.random() < 0.3:
                groups = draw.choice([n for n in (2, 3, channels) if channels % n == 0])
                layers.append(conv(channels, channels, 3, padding=1, groups=groups))
                layers.append(norm(channels))
        layers += [pool(2), conv(channels, 4, 1), nn.Flatten(2)]
        super().__init__(*layers)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_random_nets(seed: int) -> None:
    torch.manual_seed(seed)
    model = RandomGroup(seed)
    x = torch.randn(2, 3, *[8] * model.dims)
    space = assert_pruned_is_blinded(warmed(model, x), x, seed)
    assert any(slot.is_group for slot in space.slots)
    net = Supernet(model, space)
    vector = tuple(len(names) - 1 for names in space.candidates)
    pruned_model = rewrite(model, space.architecture(vector))
    pruned_model.load_state_dict(net.emit(vector).state_dict())
    assert torch.equal(run_seeded(pruned_model, x, False), run_seeded(net.emit(vector), x, False))


def test_costs_by_hand() -> None:
    # block2: conv3x3 4->8 /2 and conv3x3 8->8 on 16x16, half of whose 8 channels stay.
    model, x = TinyResNet(), images(size=16)
    space = group_space(model, x)
    slot = space.slots[1]
    assert [str(site.spec) for site in pruned_sites(slot, 0.5)] == [
        "conv3x3 4->4 /2",
        "conv3x3 4->8",
    ]
    half = slot_costs(space)[1][space.candidates[1].index("keep0.5")]
    whole = slot_costs(space)[1][0]
    assert half.macs == 8 * 8 * 9 * (4 * 4 + 4 * 8)
    assert whole.params - half.params == 9 * (4 * 4 + 4 * 8) + 2 * 4  # the norm's, too


def test_channels_are_kept_by_what_is_read_of_them() -> None:
    model = TinyResNet()
    with torch.no_grad():
        model.block1.conv2.weight.fill_(1.0)
        model.block1.bn1.weight.copy_(torch.tensor([0.1, -3.0, 2.0, 0.2]))
    (slot, _) = group_space(model, images()).slots
    assert kept_channels(slot, 0.5, dict(model.named_modules()))[0].tolist() == [1, 2]


def test_few_channels_are_offered_each_number_once() -> None:
    # 4 channels: 7, 6, 5, 4, 3, 2 eighths of them are 3, 3, 2, 2, 1, 1.
    assert group_space(TinyResNet(), images()).candidates[0] == (
        "original", "keep0.75", "keep0.5", "keep0.25",
    )  # fmt: skip


class Normed(nn.Module):
    """Two convs with a norm that is given."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.norm, self.second = norm, nn.Conv2d(8, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.norm(self.first(self.stem(x)))).mean((2, 3))


class ScaleNorm(nn.Module):
    """A user's norm, the shape of whose numbers is the user's."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(shape))
        self.register_buffer("eps", torch.full((1,), 1e-3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale.reshape(1, -1, 1, 1) + self.eps


@pytest.mark.parametrize(
    ("norm", "is_group"),
    [
        (ScaleNorm(8), True),
        (ScaleNorm(1, 8, 1, 1), False),
        (nn.GroupNorm(1, 8), False),
        (nn.GroupNorm(4, 8), True),
        (nn.GroupNorm(4, 8, affine=False), True),
        (nn.LayerNorm([8, 12, 12]), False),
        (nn.InstanceNorm2d(8, affine=True), True),
        (nn.PReLU(8), True),
        (nn.Sequential(nn.BatchNorm2d(8), nn.PReLU(8)), True),
        (nn.Sequential(nn.GroupNorm(2, 8), nn.PReLU(8)), True),
        (timm.layers.BatchNormAct2d(8, act_layer=nn.PReLU), True),
        (timm.layers.LayerNorm2d(8), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_norms_that_keep_channels_apart_are_narrowed(norm: nn.Module, is_group: bool) -> None:
    model, x = Normed(norm), images(size=16)
    space = search_space(model, x, granularity="group")
    joined = [site.conv for slot in space.slots if slot.is_group for site in slot.sites]
    assert joined == (["first", "second"] if is_group else ["stem", "first"])
    if is_group:
        assert_pruned_is_blinded(model, x, seed=2)


def test_group_norms_lose_whole_groups(tmp_path) -> None:
    model = Normed(nn.Sequential(nn.SiLU(), nn.GroupNorm(4, 8), nn.GroupNorm(2, 8)))
    space = group_space(model, images(size=16))
    assert space.slots[0].sites[0].unit == 4
    found = space.architecture([space.candidates[0].index("keep0.5")])
    network = rewrite(model, found)
    assert [(n.num_groups, n.num_channels) for n in network.norm[1:]] == [(2, 4), (1, 4)]
    found.save(tmp_path / "architecture.json")
    assert Architecture.load(tmp_path / "architecture.json") == found


class Activated(Normed):
    """The norm comes after the activation, and a PReLU after that."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm2d(8))
        self.after = nn.PReLU(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(self.stem(x)).relu()
        return self.second(self.after(self.norm(x))).mean((2, 3))


def test_what_lies_along_the_way_is_narrowed_and_kept_in_files(tmp_path) -> None:
    model, x = Activated(), images(size=16)
    (slot,) = search_space(model, x, granularity="group").slots
    assert (slot.sites[0].norm, slot.sites[0].along) == (None, ("norm", "after"))
    space = assert_pruned_is_blinded(model, x, seed=2)
    found = space.architecture([len(space.candidates[0]) - 1])
    found.save(tmp_path / "architecture.json")
    loaded = Architecture.load(tmp_path / "architecture.json")
    assert loaded == found
    network = rewrite(model, loaded)
    assert network.norm.num_features == network.after.num_parameters == network.first.out_channels


def test_an_architecture_of_groups_survives_its_file(tmp_path) -> None:
    model, x = TinyResNet(), images()
    found = group_space(model, x).architecture((1, 2))
    found.save(tmp_path / "architecture.json")
    loaded = Architecture.load(tmp_path / "architecture.json")
    assert loaded == found
    first, second = rewrite(model, found), rewrite(model, loaded)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


class Face(nn.Module):
    """Residual blocks as in networks for faces, whose PReLUs have one number for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(3, 8, 3), *(self._branch() for _ in range(2))

    def _branch(self) -> nn.Module:
        return nn.Sequential(
            nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8),
            nn.PReLU(8), nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.first(x)
        return (x + self.second(x)).mean((2, 3))


def test_all_candidates_of_a_group_with_a_prelu_have_exact_costs() -> None:
    model, x = warmed(Face(), images(size=12)).eval(), images(size=12)
    space = search_space(model, x, granularity="group")
    assert [len(slot.sites) for slot in space.slots] == [2, 2]
    assert "no_branch" in space.candidates[0]
    before, costs, net = measure_cost(model, x), slot_costs(space), Supernet(model, space)
    for k in range(len(space.candidates[0])):
        vector = (k, len(space.candidates[1]) - 1 - k)
        network = rewrite(model, space.architecture(vector)).eval()
        after = measure_cost(network, x)
        assert after.macs - before.macs == sum(
            row[i].macs - row[0].macs for row, i in zip(costs, vector, strict=True)
        )
        assert after.params - before.params == sum(
            row[i].params - row[0].params for row, i in zip(costs, vector, strict=True)
        )
        emitted = net.emit(vector).eval()
        network.load_state_dict(emitted.state_dict())
        assert torch.equal(run_seeded(network, x, False), run_seeded(emitted, x, False))


class Grouped(nn.Module):
    """Two grouped convs of different groups: 6 of 12 channels are whole groups of both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 24, 1)
        self.twos = nn.Conv2d(24, 24, 3, padding=1, groups=12)
        self.threes, self.last = nn.Conv2d(24, 24, 3, groups=8), nn.Conv2d(24, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.threes(self.twos(self.first(self.stem(x)).relu()).relu())).mean(
            (2, 3)
        )


def test_whole_groups_of_grouped_convs_stay() -> None:
    model, x = Grouped(), images(size=8)
    space = search_space(model, x, granularity="group", candidates=["convs"])
    assert space.candidates == (("original", "keep0.75", "keep0.5", "keep0.25"),)
    with torch.no_grad():
        model.last.weight[:, 6:18] *= 0.01
    network = rewrite(model, space.architecture([2]))
    assert (network.twos.groups, network.threes.groups, network.last.in_channels) == (6, 4, 12)
    kept = [0, 1, 2, 3, 4, 5, 18, 19, 20, 21, 22, 23]
    assert torch.equal(network.twos.weight, model.twos.weight[kept])
    assert_pruned_is_blinded(model, x, seed=4)
