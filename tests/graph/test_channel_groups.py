import torch
import torchvision
from models import TinyResNet, images
from torch import nn

import refiner
from refiner.graph.channel_groups import find_channel_groups
from refiner.graph.skips import Flow
from refiner.graph.slots import Slot, find_slots
from refiner.graph.tracing import trace


def channel_groups_of(model: nn.Module, x: torch.Tensor) -> list[tuple[str, ...]]:
    traced = trace(model, x)
    flow, training = Flow(traced), Flow(traced, traced.meta["train_graph"])
    found = find_channel_groups(flow, training, {str(node.target) for node in flow.convs})
    return [group.convs for group in found]


def sequence(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten(2), nn.Flatten(1))


def test_the_two_convs_of_each_residual_block() -> None:
    # The stem feeds the skip connection as well, so it begins no group.
    assert channel_groups_of(TinyResNet(), images()) == [
        ("block1.conv1", "block1.conv2"),
        ("block2.conv1", "block2.conv2"),
    ]


def test_the_three_convs_of_a_bottleneck() -> None:
    found = channel_groups_of(torchvision.models.resnet50(), torch.zeros(1, 3, 32, 32))
    assert len(found) == 16
    assert found[3] == ("layer2.0.conv1", "layer2.0.conv2", "layer2.0.conv3")


def test_an_inverted_residual_block_with_its_depthwise_conv() -> None:
    found = channel_groups_of(torchvision.models.mobilenet_v2(), torch.zeros(1, 3, 32, 32))
    block = "features.3.conv"
    assert (f"{block}.0.0", f"{block}.1.0", f"{block}.2") in found
    # The first block has no skip connection, so the run is cut at its end, where channels are few.
    first, second = found[:2]
    assert first == ("features.0.0", "features.1.conv.0.0", "features.1.conv.1")
    assert second[0] == "features.2.conv.0.0"


def test_a_long_run_is_cut_where_channels_are_fewest() -> None:
    convs = [nn.Conv2d(a, b, 3, padding=1) for a, b in [(3, 8), (8, 8), (8, 6), (6, 8), (8, 8)]]
    model = sequence(*[layer for conv in convs for layer in (conv, nn.ReLU())])
    assert channel_groups_of(model, images(size=8)) == [("0", "2", "4"), ("6", "8")]


def test_channels_that_are_not_kept_apart_end_a_group() -> None:
    def pair(*between: nn.Module, after: nn.Module | None = None) -> list[tuple[str, ...]]:
        convs = nn.Conv2d(3, 4, 3), after or nn.Conv2d(4, 4, 1)
        return channel_groups_of(sequence(convs[0], *between, convs[1]), images(size=8))

    assert pair(nn.BatchNorm2d(4), nn.SiLU(), nn.MaxPool2d(2)) == [("0", "4")]
    assert pair(nn.PReLU()) == [("0", "2")]  # one number for all channels
    assert pair(nn.PReLU(4)) == [("0", "2")]
    assert pair(nn.PReLU(4), nn.GroupNorm(2, 4)) == [("0", "3")]  # by whole groups
    assert pair(nn.GroupNorm(1, 4)) == []
    assert pair(nn.Sequential(nn.Linear(6, 6), nn.BatchNorm2d(4))) == []
    assert pair(nn.Conv2d(4, 4, 3, groups=2)) == [("0", "1", "2")]  # by whole groups
    assert pair(nn.Conv2d(4, 8, 3, groups=2), after=nn.Conv2d(8, 4, 1)) == []
    assert pair(nn.PixelShuffle(2), after=nn.Conv2d(1, 4, 1)) == []
    assert pair(after=nn.Conv2d(4, 4, 1, groups=2)) == []
    assert pair(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))) == [("0", "1", "2")]
    assert pair(nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1))) == []


class SamePadded(nn.Conv2d):
    """Pads by itself, as convs of TensorFlow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


def test_a_depthwise_conv_that_pads_by_itself_is_passed() -> None:
    def slots(groups: int, hooked: bool = False) -> tuple[Slot, ...]:
        each = SamePadded(4, 4, 3, stride=2, groups=groups)
        if hooked:
            each.register_forward_hook(lambda *_: None)
        convs = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 4, 1), each, nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        table = find_slots(trace(sequence(*convs), images(size=10)), "group")
        assert "2" in [conv.name for conv in table.frozen]
        return table.slots

    (slot,) = slots(groups=4)
    first, _ = slot.sites
    assert (first.conv, first.along, first.along_parameters) == ("1", ("2", "3"), 4 * 9 + 4 + 8)
    assert first.along_macs == 4 * 4 * 4 * 9
    assert first.macs_after == len(images()) * first.along_macs
    assert len(slots(groups=1)) == len(slots(groups=4, hooked=True)) == 2


def test_what_train_mode_alone_reads_ends_a_group() -> None:
    class WithHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            y = self.second(x.relu()).mean((2, 3))
            return y + x.mean((2, 3)) if self.training else y

    assert channel_groups_of(WithHead(), images(size=8)) == []


class PadsItself(nn.Conv2d):
    """A subclass as that of the EfficientNets of TensorFlow."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, bias=False)
        self.pad = nn.ZeroPad2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.pad(x))


class Masked(PadsItself):
    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after)
        self.register_buffer("mask", torch.ones(3, 3))


def test_a_subclass_with_nothing_but_a_weight_can_be_cut() -> None:
    def model(kind: type[PadsItself]) -> nn.Sequential:
        torch.manual_seed(0)
        return sequence(
            nn.Conv2d(3, 8, 1), kind(8, 16), nn.BatchNorm2d(16), nn.ReLU(), kind(16, 8)
        ).eval()

    x = images(size=8)
    assert channel_groups_of(model(PadsItself), x) == [("0", "1", "4")]
    assert channel_groups_of(model(Masked), x) == []
    plain = model(PadsItself)
    space = refiner.search_space(plain, x, granularity="group", candidates=["keep0.5"])
    network = refiner.rewrite(plain, space.architecture([1]))
    stays = {tuple(weight.flatten().tolist()) for weight in network[1].weight}
    gone = [i for i, w in enumerate(plain[1].weight) if tuple(w.flatten().tolist()) not in stays]
    assert len(gone) == 8
    with torch.no_grad():
        plain[4].weight[:, gone] = 0
        torch.testing.assert_close(network(x), plain(x))
