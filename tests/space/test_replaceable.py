import torch
from models import images
from torch import nn

from refiner.graph.slots import find_slots
from refiner.graph.tracing import trace_model
from refiner.space.replaceable import replaceable, without_broken_groups
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet


class ReadsModules(nn.Module):
    """Reads an attribute of one conv, and of the norm after another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.read, self.free, self.plain = (
            nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)
        )
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.read(self.stem(x)) + self.read.output_padding[0]
        return self.plain(self.norm(self.free(x)) * self.norm.num_features)


def test_a_norm_that_the_model_reads_stays_and_a_conv_cannot_be_replaced() -> None:
    traced = trace_model(ReadsModules(), images())
    slots = find_slots(traced.graph_module).slots
    assert [slot.sites[0].norm for slot in slots] == [None, "norm", None]
    kept, bound = replaceable([(slot, ("depthwise3x3",)) for slot in slots], traced)
    assert [slot.name for slot, _ in kept] == ["free", "plain"]
    assert [slot.sites[0].norm for slot, _ in kept] == [None, None]
    assert [slot.name for slot in bound] == ["read"]


class ReadsItsNorm(nn.Module):
    """Reads an attribute of the norm in a residual branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return (x + self.norm(self.conv(x)) * self.norm.eps).mean((2, 3))


def test_a_branch_with_a_norm_that_the_model_reads_stays() -> None:
    names = ["no_branch", "depthwise3x3"]
    space = search_space(ReadsItsNorm(), images(), granularity="block", candidates=names)
    assert space.candidates == (("original", "depthwise3x3"),)
    assert space.slots[0].sites[0].norm is None


def test_a_group_that_cannot_be_pruned_is_split() -> None:
    class Pair(nn.Module):
        def __init__(self, mixes: bool) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3)
            self.first, self.second = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
            self.mixes = mixes

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(self.stem(x))
            return self.second(x.softmax(1) if self.mixes else x.relu())

    def names(mixes: bool) -> list[list[str]]:
        traced = trace_model(Pair(mixes), images())
        slots = find_slots(traced.graph_module, "group").slots
        found = without_broken_groups(slots, traced)
        return [[site.conv for site in slot.sites] for slot in found]

    assert names(False) == [["first", "second"]]
    assert names(True) == [["first"], ["second"]]


class ReadsWhatIsAlong(nn.Module):
    """Reads a PReLU between the convs of a group."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.last = (nn.Conv2d(c, 8, 3, padding=1) for c in (3, 8, 8))
        self.norm, self.act, self.second = nn.BatchNorm2d(8), nn.PReLU(8), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.act(self.norm(self.first(self.stem(x)))))
        return self.last(x * self.act.weight.numel())


def test_what_is_along_and_is_read_stays_with_the_original() -> None:
    model, x = ReadsWhatIsAlong(), images()
    space = search_space(model, x, granularity="group")
    assert [slot.name for slot in space.slots] == ["first", "last"]
    assert all(site.along == () for slot in space.slots for site in slot.sites)
    supernet = Supernet(model, space)
    supernet.select((1, 1))
    assert supernet(x).shape == model(x).shape
