import time

import torch
from models import TinyResNet, images
from torch import nn

from refiner.latency import measure_latency, slot_latencies
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


def test_each_candidate_of_each_slot_has_a_time_and_slots_of_one_shape_the_same() -> None:
    model, x = TinyResNet(), images()
    space = search_space(model, x)
    table = slot_latencies(space, model, x, device=torch.device("cpu"), repeats=3, warm_up=1)
    assert [len(row) for row in table] == [len(names) for names in space.candidates]
    assert all(each.median > 0 and each.noise >= 0 for row in table for each in row)
    assert table[0] == table[1] != table[2]  # 4 -> 4 channels twice, then 4 -> 8


def test_a_block_costs_what_its_convs_cost() -> None:
    model, x = TinyResNet(), images()
    space = search_space(model, x, granularity="block")
    table = slot_latencies(space, model, x, device=torch.device("cpu"), repeats=3, warm_up=1)
    assert len(table) == 2
    assert all(each.median > 0 for row in table for each in row)
