import pytest
import timm
import torch
from models import PlainNet, TinyResNet, images
from torch import nn

from refiner.core.errors import ConfigError
from refiner.graph.slots import find_slots
from refiner.graph.tracing import trace


def table(model: nn.Module, x: torch.Tensor, granularity="conv"):
    return find_slots(trace(model, x), granularity)


def test_resnet18_gives_16_and_8_slots_and_8_skips() -> None:
    model, x = timm.create_model("resnet18"), images(size=32)
    convs, blocks = table(model, x), table(model, x, "block")
    expected = [
        f"layer{stage}.{block}.conv{conv}"
        for stage in (1, 2, 3, 4)
        for block in (0, 1)
        for conv in (1, 2)
    ]
    assert [s.name for s in convs.slots] == expected
    assert [s.name for s in blocks.slots] == [f"layer{s}.{b}" for s in (1, 2, 3, 4) for b in (0, 1)]
    assert [[c.conv for c in s.sites] for s in blocks.slots][0] == expected[:2]
    assert {f.name: f.reason.split(":")[0].split(" to ")[0] for f in convs.frozen} == {
        "conv1": "stem",
        "layer2.0.downsample.0": "projection on the skip connection",
        "layer3.0.downsample.0": "projection on the skip connection",
        "layer4.0.downsample.0": "projection on the skip connection",
    }
    assert [len(e.convs) for e in convs.skips] == [0, 0, 1, 0, 1, 0, 1, 0]


def test_sites_know_norm_and_shapes() -> None:
    slots = table(TinyResNet(width=4), images(count=2, size=8)).slots
    site = slots[2].sites[0]
    assert (site.conv, site.norm) == ("block2.conv1", "block2.bn1")
    assert (site.in_shape, site.out_shape) == ((2, 4, 8, 8), (2, 8, 4, 4))


def test_a_plain_model_has_no_skips_and_a_stem() -> None:
    found = table(PlainNet(), images())
    assert [s.name for s in found.slots] == ["second", "third"]
    assert [s.sites[0].norm for s in found.slots] == ["norm", None]
    assert found.skips == ()


def test_bottlenecks_give_one_slot_a_block() -> None:
    model = timm.create_model("resnet26")
    blocks = table(model, images(size=32), "block").slots
    assert [s.name for s in blocks] == [f"layer{s}.{b}" for s in (1, 2, 3, 4) for b in (0, 1)]
    assert all(len(s.sites) == 1 for s in blocks)


def test_a_concat_skip_is_found_and_its_branches_stay_slots() -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.one = nn.Conv2d(4, 4, 3, padding=1)
            self.two = nn.Conv2d(8, 4, 3, padding=1)

        def forward(self, x):
            x = self.stem(x)
            x = torch.cat([x, self.one(x)], 1)
            return torch.cat([x, self.two(x)], 1)

    found = table(Dense(), images())
    assert [s.name for s in found.slots] == ["one", "two"]
    assert [(e.fork, e.join) for e in found.skips] == [("stem", "cat"), ("cat", "cat_1")]


def test_two_equal_branches_are_no_skip() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.left = nn.Conv2d(4, 4, 3, padding=1)
            self.right = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            x = self.stem(x)
            return self.left(x) + self.right(x)

    found = table(Twins(), images())
    assert [s.name for s in found.slots] == ["left", "right"]
    assert found.skips == ()


def test_a_gate_round_a_squeeze_and_excite_is_a_skip() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.body = nn.Conv2d(4, 4, 3, padding=1)
            self.squeeze = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = self.body(self.stem(x))
            return x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True)))

    found = table(Gated(), images())
    assert [s.name for s in found.slots] == ["body"]
    assert [(e.fork, e.join, e.convs) for e in found.skips] == [("body", "mul", ())]


def test_a_branch_that_depends_on_the_data_is_as_on_the_example() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            return self.conv(x) if x.sum() > -1e9 else x

    found = table(nn.Sequential(nn.Conv2d(3, 4, 3), Branching(), nn.Conv2d(4, 4, 3)), images())
    assert [s.name for s in found.slots] == ["1.conv", "2"]


def test_writes_into_memory_carry_data() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.left, self.last = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

        def forward(self, x):
            out = torch.zeros(len(x), 6, *x.shape[2:])
            x = self.stem(x)
            out[:, :3] = self.left(x)
            out[:, 3:] = x
            return self.last(out[:, :3] + out[:, 3:])

    found = table(Writes(), images())
    assert [s.name for s in found.slots] == ["left", "last"]


def test_unknown_granularity() -> None:
    with pytest.raises(ConfigError, match="conv, block"):
        table(PlainNet(), images(), "layer")
