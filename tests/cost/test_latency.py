import time

import torch
from models import TinyResNet, images
from torch import nn

from refiner.cost.latency import Latency, measure_latency, network_latencies
from refiner.training.devices import Devices


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
