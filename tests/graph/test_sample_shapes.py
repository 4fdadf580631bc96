"""Costs of slots are those of one sample, however many images a conv is given for it."""

import pytest
import torch
from torch import nn

import refiner
from refiner.cost.costs import measure_cost, slot_costs
from refiner.graph.sample_shapes import for_one_sample
from refiner.graph.slots import find_slots
from refiner.graph.tracing import trace_model


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.c1, self.c2 = (nn.Conv2d(c, 8, 3, padding=1) for c in (3, 8, 8))
        self.norm, self.fc = nn.BatchNorm2d(8), nn.Linear(8, 4)

    def body(self, x):
        return self.fc(self.c2(self.norm(self.c1(self.stem(x))).relu()).mean((2, 3)))


class Frames(Body):
    def forward(self, clip):
        return self.body(clip.flatten(0, 1)).view(len(clip), -1, 4).mean(1)


class Patches(Body):
    def forward(self, x):
        x = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5)
        return self.body(x.flatten(0, 2)).view(len(x), -1, 4).mean(1)


class Pairs(Body):
    def forward(self, first, second):
        one, two = self.body(torch.cat([first, second])).chunk(2)
        return one - two


class Regions(Body):
    """Gives the convs one region for each bright image, and two more whatever it finds."""

    def forward(self, x):
        found = torch.cat([x[:, :, :4, :4][x.mean((1, 2, 3)) > 0], x.new_ones(2, 3, 4, 4)])
        return self.body(found)


class PairsInTheBatch(Body):
    def forward(self, x):
        one, two = self.body(x).view(-1, 2, 4).unbind(1)
        return one - two


CASES = {
    "frames": (Frames, (torch.randn(2, 5, 3, 8, 8),), 5 * 64),
    "patches": (Patches, (torch.randn(3, 3, 8, 8),), 4 * 16),
    "pairs": (Pairs, (torch.randn(3, 3, 8, 8), torch.randn(3, 3, 8, 8)), 2 * 64),
    "regions": (Regions, (torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 3, 8, 8),), 3 * 16),
}


@pytest.mark.parametrize("granularity", ["conv", "group"])
@pytest.mark.parametrize("name", CASES)
def test_predicted_costs_are_the_measured_ones(name, granularity) -> None:
    kind, example, positions = CASES[name]
    torch.manual_seed(0)
    model, one = kind(), tuple(tensor[:1] for tensor in example)
    space = refiner.search_space(model, example, granularity=granularity)
    before, costs = measure_cost(model, one), slot_costs(space)
    assert sum(row[0].macs for row in costs) == 2 * positions * 8 * 72
    assert before.macs >= positions * 8 * (27 + 72 + 72)
    for index in range(1, min(map(len, costs))):
        vector = (index,) * len(costs)
        after = measure_cost(refiner.rewrite(model, space.architecture(vector)), one)
        assert after.macs == before.macs + sum(row[index].macs - row[0].macs for row in costs)


def test_where_one_sample_does_not_run_the_batch_is_shared_out() -> None:
    traced = trace_model(PairsInTheBatch(), torch.randn(4, 3, 8, 8))
    slots = for_one_sample(find_slots(traced.graph_module).slots, traced)
    assert [site.in_shape for slot in slots for site in slot.sites] == [(1, 8, 8, 8)] * 2


def test_a_conv_that_one_sample_does_not_reach_costs_it_nothing() -> None:
    class Rare(Body):
        def forward(self, x):
            x = self.c1(self.stem(x))
            return self.c2(x) if len(x) > 1 else x

    space = refiner.search_space(Rare(), torch.randn(2, 3, 8, 8))
    assert [row[0].macs for row in slot_costs(space)] == [64 * 8 * 72, 0]


def test_the_model_runs_once_for_all_granularities_and_keeps_no_hook() -> None:
    traced = trace_model(Frames(), torch.randn(2, 5, 3, 8, 8))
    first = for_one_sample(find_slots(traced.graph_module).slots, traced)
    traced.work.forward = None  # a further run would fail
    assert for_one_sample(find_slots(traced.graph_module, "group").slots, traced)
    assert [slot.sites[0].in_shape for slot in first] == [(5, 8, 8, 8)] * 2
    assert not any(module._forward_hooks for module in traced.work.modules())
