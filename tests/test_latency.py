import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from models import TinyResNet, images
from torch import nn

from refiner.devices import Devices
from refiner.errors import RunError
from refiner.latency import (
    Conditions,
    Latency,
    LatencyTable,
    latency_table,
    measure_latency,
    network_latencies,
    slot_latencies,
)
from refiner.space import search_space


class Sleeper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.01)
        return x * self.weight


def test_milliseconds_of_a_forward_pass() -> None:
    assert 9.9 < measure_latency(Sleeper(), images(), repeats=3, warm_up=1) < 100


def test_the_model_is_left_as_it_was() -> None:
    model = TinyResNet().train()
    measure_latency(model, images(), repeats=2, warm_up=1)
    assert all(m.training for m in model.modules())


def test_a_copy_is_timed_with_its_noise() -> None:
    model = Sleeper().train()
    [found] = network_latencies(
        [model], images(), devices=Devices.choose("cpu"), repeats=3, warm_up=1
    )
    assert 9.9 < found.median < 100
    assert found.noise >= 0
    assert model.training
    assert str(Latency(median=4.1, noise=0.052)) == "4.10 ± 0.05 ms"


def test_each_candidate_of_each_slot_has_a_time_and_slots_of_one_shape_the_same() -> None:
    model, x = TinyResNet(), images()
    space = search_space(model, x)
    table = slot_latencies(space, model, x, devices=Devices.choose("cpu"), repeats=3, warm_up=1)
    assert [len(row) for row in table] == [len(names) for names in space.candidates]
    assert all(each.median > 0 and each.noise >= 0 for row in table for each in row)
    assert table[0] == table[1] != table[2]  # 4 -> 4 channels twice, then 4 -> 8


def test_a_block_costs_what_its_convs_cost() -> None:
    model, x = TinyResNet(), images()
    space = search_space(model, x, granularity="block")
    table = slot_latencies(space, model, x, devices=Devices.choose("cpu"), repeats=3, warm_up=1)
    assert len(table) == 2
    assert all(each.median > 0 for row in table for each in row)


def test_a_chain_costs_what_its_convs_cost_narrower_ones_too() -> None:
    model, x = TinyResNet(width=8), images()
    space = search_space(model, x, granularity="chain")
    found = latency_table(space, model, x, devices=Devices.choose("cpu"))
    assert list(found.slots) == ["block1", "block2"]
    assert {"narrow7", "narrow2", "depthwise3x3"} <= set(found.slots["block1"])
    assert all(each.median > 0 for row in found.rows(space) for each in row)


def table() -> LatencyTable:
    row = {
        "original": Latency(median=2.0, noise=0.1),
        "depthwise3x3": Latency(median=0.5, noise=0.2),
    }
    return LatencyTable(
        conditions=Conditions(device="a CPU", batch=1, precision="no", torch="2"),
        model=Latency(median=10.0, noise=0.5),
        slots={f"block{b}.conv{c}": row for b in (1, 2) for c in (1, 2)},
    )


def test_an_architecture_takes_what_the_model_takes_but_for_its_swaps() -> None:
    space = search_space(TinyResNet(), images(), candidates=["depthwise3x3"])
    assert table().predicted(space.architecture((0, 0, 0, 0))) == Latency(median=10.0, noise=0.5)
    swapped = table().predicted(space.architecture((1, 0, 0, 1)))
    assert swapped.median == pytest.approx(10.0 - 2 * 1.5)
    assert swapped.noise == pytest.approx(0.5 + 2 * (0.1 + 0.2))
    assert table().rows(space)[3] == [
        Latency(median=2.0, noise=0.1),
        Latency(median=0.5, noise=0.2),
    ]


def test_a_table_comes_back_from_json_to_the_bit_and_fits_its_space_alone() -> None:
    model, x = TinyResNet(), images(1)
    space = search_space(model, x, candidates=["depthwise3x3"])
    measured = latency_table(space, model, x, devices=Devices.choose("cpu"))
    assert LatencyTable.from_json(json.loads(json.dumps(measured.to_json()))) == measured
    assert measured.conditions.batch == 1
    assert measured.conditions.precision == "no"
    assert measured.conditions.torch == torch.__version__
    with pytest.raises(RunError, match="tells nothing of 'maxpool3x3'"):
        measured.rows(search_space(model, x))
    for damaged in ({}, {"conditions": {}}, {**measured.to_json(), "slots": []}):
        with pytest.raises(RunError, match=r"latency\.json is damaged"):
            LatencyTable.from_json(damaged)


def test_the_precision_that_is_asked_for_is_the_one_that_is_timed() -> None:
    # In a process of its own: accelerate keeps one precision a process.
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
from models import TinyResNet, images
from refiner.devices import Devices
from refiner.latency import latency_table
from refiner.space import search_space

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
assert given.count(torch.float32) == 35  # the stem of the model alone
assert not model.stem.weight.requires_grad
assert model.stem.weight.dtype == torch.float32
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
