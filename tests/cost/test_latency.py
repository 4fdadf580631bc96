import time

import torch
from models import TinyResNet, images
from torch import nn

from refiner.cost.latency import Latency, conditions_of, measure_latency, network_latencies
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


def test_conditions_name_the_processor_its_threads_and_the_batch(tmp_path, monkeypatch) -> None:
    cpus = tmp_path / "cpuinfo"
    cpus.write_text("processor\t: 0\nmodel name\t: A CPU: fast\nprocessor\t: 1\nmodel name\t: B\n")
    monkeypatch.setattr("refiner.cost.latency.Path", lambda _: cpus)
    threads = torch.get_num_threads()
    found = conditions_of(Devices.choose("cpu"), images(count=3))
    assert found.device == f"A CPU: fast, {threads} {'thread' if threads == 1 else 'threads'}"
    assert (found.batch, found.precision, found.torch) == (3, "no", torch.__version__)
    cpus.unlink()
    monkeypatch.setattr("platform.machine", lambda: "a machine")
    assert conditions_of(Devices.choose("cpu"), images()).device.startswith("a machine, ")


def test_conditions_hold_plain_values() -> None:
    """Torch's version is of a class of its own, which no document gives back."""
    assert type(conditions_of(Devices.choose("cpu"), images()).torch) is str
