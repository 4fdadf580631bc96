import itertools
import statistics
import time
from typing import ClassVar

import pytest
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


def test_passes_are_timed_in_eval_mode_without_gradients() -> None:
    class Watched(Sleeper):
        seen: ClassVar[set[tuple[bool, bool]]] = set()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.add((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    network_latencies(
        [Watched().train()], images(), devices=Devices.choose("cpu"), repeats=1, warm_up=1
    )
    assert Watched.seen == {(False, False)}


def test_each_round_times_each_network_and_the_warm_up_is_left_out(monkeypatch) -> None:
    class Noted(Sleeper):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(int(self.weight.shape[0]))
            return x * self.weight[:1]

    def of(number: int) -> Noted:
        model = Noted()
        model.weight = nn.Parameter(torch.zeros(number))
        return model

    calls: list[int] = []
    # Each look at the clock is later than the one before by 1 ms, 2 ms, 3 ms and so on.
    clock = itertools.accumulate(0.001 * i for i in itertools.count())
    monkeypatch.setattr("refiner.cost.latency.time.perf_counter", lambda: next(clock))
    found = network_latencies(
        [of(1), of(2)], images(), devices=Devices.choose("cpu"), repeats=9, warm_up=2
    )
    rounds = [calls[i : i + 2] for i in range(0, len(calls), 2)]
    assert [sorted(each) for each in rounds] == [[1, 2]] * 11
    assert {tuple(each) for each in rounds} == {(1, 2), (2, 1)}, "the order is drawn"
    # A round looks three times; the rounds after the warm-up begin with the looks 6, 9, 12, ...
    for number, latency in enumerate(found, 1):
        times = [3 * r + 1 + rounds[r].index(number) for r in range(2, 11)]
        assert latency.median == pytest.approx(statistics.median(times))
