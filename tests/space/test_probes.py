"""Models that a run does not bear out: their channels cannot be pruned, or their branches not go."""

import pytest
import torch
from models import images
from torch import nn

from refiner.graph.slots import find_slots
from refiner.graph.tracing import trace_model
from refiner.space.candidates import NO_BRANCH
from refiner.space.keep_ratios import keep_ratio_of
from refiner.space.probes import broken_whole
from refiner.space.search_space import search_space


class Counts(nn.Module):
    """Looks at how many channels there are between its convs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.norm, self.second = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(self.stem(x)))
        if x.shape[1] != 8:
            raise ValueError(x.shape)
        return self.second(x.relu()).mean((2, 3))


class Mixes(Counts):
    """Takes channels together between its convs, by an operation that has no numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(self.stem(x)))
        return self.second(x.softmax(dim=1)).mean((2, 3))


class Gates(Counts):
    """Looks at how many channels there are, and goes another way with fewer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(self.stem(x)))
        return (self.second(x.relu()) if x.shape[1] == 8 else x).mean((2, 3))


@pytest.mark.parametrize("kind", [Counts, Mixes, Gates])
@pytest.mark.parametrize("make", [torch.zeros, torch.ones])  # all channels are equal
def test_a_group_that_a_run_does_not_bear_out_is_none(kind: type[nn.Module], make) -> None:
    space = search_space(kind(), make(1, 3, 16, 16), granularity="group")
    assert [slot.name for slot in space.slots] == ["first", "second"]
    assert not any(slot.is_group for slot in space.slots)
    names = {name for names in space.candidates for name in names}
    assert not any(map(keep_ratio_of, names))


class Block(nn.Module):
    """A stem, and a skip connection past two convs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, padding=1)

    def between(self, y: torch.Tensor) -> torch.Tensor:
        return y.relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return (x + self.second(self.between(self.first(x)))).mean((2, 3))


class CountsInside(Block):
    """Looks at how many channels there are in its branch."""

    def between(self, y: torch.Tensor) -> torch.Tensor:
        assert y.shape[1] == 6
        return y.relu()


class GrowsWithChannels(Block):
    """Has another skip connection with fewer channels in its branch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.first(x)
        return (x * y.shape[1] + self.second(y.relu())).mean((2, 3))


class ScalesEach(Block):
    """Has a module with a number for each channel in its branch."""

    def __init__(self) -> None:
        super().__init__()
        self.slopes = nn.PReLU(6)

    def between(self, y: torch.Tensor) -> torch.Tensor:
        return self.slopes(y)


class ReadsInside(Block):
    """Reads in another place, too, what the first conv of its branch gives."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.first(x)
        return (x + self.second(y.relu())).mean((2, 3)) + y.mean((1, 2, 3))[:, None]


@pytest.mark.parametrize(
    ("kind", "broken"),
    [(Block, False), (CountsInside, True), (GrowsWithChannels, True), (ScalesEach, True),
     (ReadsInside, True)],
)  # fmt: skip
def test_a_branch_goes_where_a_run_bears_it_out(kind: type[nn.Module], broken: bool) -> None:
    torch.manual_seed(0)
    traced = trace_model(kind(), images(size=9))
    (slot,) = find_slots(traced.graph_module, "block").slots
    assert slot.is_branch, "the graph alone does not show it"
    assert broken_whole(traced, [slot], NO_BRANCH) == ([0] if broken else [])
    space = search_space(kind(), images(size=9), granularity="block")
    assert (NO_BRANCH in space.candidates[0]) is not broken
