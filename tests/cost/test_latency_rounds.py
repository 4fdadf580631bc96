import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import torch
from models import TinyResNet, images
from torch import nn

from refiner.cost.latency import conditions_of
from refiner.cost.latency_rounds import latency_table
from refiner.space.search_space import search_space
from refiner.training.devices import Devices


class Slow(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.01)
        return super().forward(x)


def test_each_candidate_is_timed_in_its_slot_beside_the_model_which_stays_as_it_was() -> None:
    model, x = TinyResNet().train(), images()
    slow = Slow(4, 4, 3, padding=1, bias=False)
    model.block1.conv1 = slow
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    space = search_space(model, x, candidates=["depthwise3x3", "avgpool3x3"])
    table = latency_table(space, model, x, devices=Devices.choose("cpu"), repeats=3, warm_up=1)
    rows = table.rows(space)
    assert [len(row) for row in rows] == [3] * 4
    assert all(each.median > 0 and each.noise >= 0 for row in rows for each in row)
    assert table.model.median > 10
    # The sleep is in one slot's original alone, so that its candidates save it.
    sleepy, *others = table.slots["block1.conv1"].values()
    assert sleepy.median > 10
    assert sleepy.median > max(
        each.median for each in (*others, *table.slots["block1.conv2"].values())
    )
    assert all(m.training for m in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Crops(nn.Module):
    """Reads those places alone that the body finds bright, as a detector does; writes in place."""

    seen: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        nn.init.constant_(self.body.bias, 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.stem(x))
        x -= 50
        crops = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, 8, 4, 4)
        bright = crops[crops.mean((1, 2, 3)) > 0]
        self.seen.append(len(bright))
        return self.head(bright)


def test_each_slot_is_given_what_the_original_gives_whatever_stands_before_it() -> None:
    model, x = Crops(), images(2, size=16)
    space = search_space(model, x, candidates=["depthwise3x3", "avgpool3x3"])
    assert {"body", "head"} <= {slot.name for slot in space.slots}
    Crops.seen.clear()
    latency_table(space, model, x, devices=Devices.choose("cpu"), repeats=2, warm_up=1)
    assert set(Crops.seen) == {2 * 4 * 4}


def test_a_block_costs_what_its_convs_cost() -> None:
    model, x = TinyResNet(), images()
    space = search_space(model, x, granularity="block")
    table = latency_table(space, model, x, devices=Devices.choose("cpu"), repeats=3, warm_up=1)
    assert len(table.slots) == 2
    assert all(each.median > 0 for row in table.rows(space) for each in row)


def test_a_group_costs_what_its_convs_cost_narrower_ones_too() -> None:
    model, x = TinyResNet(width=8), images()
    space = search_space(model, x, granularity="group")
    found = latency_table(space, model, x, devices=Devices.choose("cpu"))
    assert list(found.slots) == ["block1", "block2"]
    assert {"keep0.75", "keep0.25", "no_branch", "depthwise3x3"} <= set(found.slots["block1"])
    assert all(each.median > 0 for row in found.rows(space) for each in row)


def test_rounds_that_are_measured_give_an_interval_for_each_candidate() -> None:
    model, x = TinyResNet(), images(1)
    model.block1.conv1 = Slow(4, 4, 3, padding=1, bias=False)
    space = search_space(model, x, candidates=["depthwise3x3", "avgpool3x3"])
    found = latency_table(space, model, x, devices=Devices.choose("cpu"), repeats=6, warm_up=1)
    assert all(low <= high for row in found.changes.values() for low, high in row.values())
    assert set(found.changes["block1.conv1"]) == {"depthwise3x3", "avgpool3x3"}
    assert found.changes["block1.conv1"]["avgpool3x3"][1] < 0
    assert not found.slower("block1.conv1", "avgpool3x3")


def test_the_precision_that_is_asked_for_is_the_one_that_is_timed() -> None:
    # In a process of its own: accelerate keeps one precision a process.
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import torch
from models import TinyResNet, images
from refiner.training.devices import Devices
from refiner.cost.latency_rounds import latency_table
from refiner.space.search_space import search_space

model, x = TinyResNet(), images(1)
model.stem.requires_grad_(False)
space = search_space(model, x)
seen, given = [], []
conv = torch.nn.Conv2d.forward
def forward(self, x):
    given.append(x.dtype)
    seen.append(conv(self, x).dtype)
    return conv(self, x)
torch.nn.Conv2d.forward = forward
devices = Devices.choose("cpu", "bf16")
table = latency_table(space, model, x, devices=devices)
assert table.conditions.precision == "bf16"
assert set(seen) == {{torch.bfloat16}}, set(seen)
passes = 1 + 18 * (1 + 6)
assert given.count(torch.float32) == passes  # in each the stem alone
assert not model.stem.weight.requires_grad
assert model.stem.weight.dtype == torch.float32
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_the_conditions_are_those_of_the_timed_batch() -> None:
    model, x = TinyResNet(), images(3)
    space = search_space(model, x, candidates=["depthwise3x3"])
    table = latency_table(space, model, x, devices=Devices.choose("cpu"), repeats=1, warm_up=0)
    assert table.conditions == conditions_of(Devices.choose("cpu"), x)
    assert table.conditions.batch == 3
