"""A stem loses channels where the next conv would otherwise be in no group."""

import pytest
import torch
from models import images
from pruning import assert_pruned_is_blinded
from torch import nn

import refiner
from refiner.graph.frozen import STEM
from refiner.graph.slots import find_slots, singles


class Early(nn.Module):
    """A stem, a depthwise and a pointwise conv, and two convs that add up."""

    def __init__(self, *, plain: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16))
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 8, 1)
        self.first, self.second = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.plain = plain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pointwise(self.depthwise(self.stem(x).relu()).relu())
        if self.plain:
            return self.first(x).mean((2, 3))
        return (x + self.second(self.first(x).relu())).mean((2, 3))


def convs(table) -> list[list[str]]:
    return [[site.conv for site in slot.sites] for slot in table.slots]


def test_a_group_begins_with_a_stem() -> None:
    table = find_slots(refiner.trace(Early(), images()), "group")
    assert convs(table) == [["stem.0", "depthwise", "pointwise"], ["first", "second"]]
    assert table.frozen == ()
    assert [site.is_stem for site in table.slots[0].sites] == [True, False, False]
    assert [slot.name for slot in singles(table.slots[0])] == ["depthwise", "pointwise"]


@pytest.mark.parametrize("granularity", ["conv", "block", "all"])
def test_elsewhere_it_is_frozen(granularity) -> None:
    table = find_slots(refiner.trace(Early(), images()), granularity)
    assert [each.name for each in table.frozen if each.reason == STEM] == ["stem.0"]


def test_groups_without_a_stem_stay_as_they_are() -> None:
    table = find_slots(refiner.trace(Early(plain=True), images()), "group")
    assert convs(table) == [["depthwise"], ["pointwise", "first"]]
    assert table.frozen[0].name == "stem.0"


@pytest.mark.parametrize("seed", range(4))
def test_it_is_pruned_exactly(seed: int) -> None:
    torch.manual_seed(0)
    space = assert_pruned_is_blinded(Early(), images(), seed)
    assert all(name.startswith(("original", "keep")) for name in space.candidates[0])


def test_candidates_without_prunings_leave_it_alone() -> None:
    space = refiner.search_space(Early(), images(), granularity="group", candidates=["identity"])
    assert [slot.name for slot in space.slots if slot.has_stem] == []
    assert ("stem.0", STEM) in [(each.name, each.reason) for each in space.frozen]


def test_a_layer_that_is_skipped_leaves_the_rest() -> None:
    space = refiner.search_space(Early(), images(), granularity="group", skip=["pointwise"])
    frozen = {each.name: each.reason for each in space.frozen}
    assert frozen["stem.0"] == STEM
    assert [slot.name for slot in space.slots][:1] == ["depthwise"]
