from typing import ClassVar

import pytest
import torch
from models import TinyResNet, images
from sleepers import Sleeper

from refiner.core.errors import ConfigError
from refiner.cost.latency import Latency, conditions_of, measure_latency, network_latencies
from refiner.runtimes.choice import make_runtime
from refiner.runtimes.timing import Patience

EAGER = make_runtime("eager", torch.device("cpu"))
SHORT = Patience(repeats=3, most=3, warm_up=1)


def test_milliseconds_of_a_forward_pass() -> None:
    assert 9.9 < measure_latency(Sleeper(), images(), repeats=3, warm_up=1) < 100


def test_milliseconds_in_a_runtime() -> None:
    model, x = TinyResNet(), images()
    assert measure_latency(model, x, runtime="onnxruntime", repeats=2, warm_up=1) > 0
    with pytest.raises(ConfigError, match="unknown runtime 'tflite'"):
        measure_latency(model, x, runtime="tflite")


def test_the_model_is_left_as_it_was() -> None:
    model = TinyResNet().train()
    measure_latency(model, images(), repeats=2, warm_up=1)
    assert all(m.training for m in model.modules())


def test_a_copy_is_timed_with_its_noise() -> None:
    model = Sleeper().train()
    [found] = network_latencies([model], images(), runtime=EAGER, patience=SHORT)
    assert 9.9 < found.median < 100
    assert found.noise >= 0
    assert model.training
    assert str(Latency(median=4.1, noise=0.052)) == "4.10 ± 0.05 ms"


def test_conditions_are_those_of_the_runtime_and_hold_plain_values() -> None:
    found = conditions_of(EAGER, images(count=3))
    assert found.runtime == f"eager {torch.__version__}"
    assert type(found.runtime) is str
    assert (found.batch, found.precision, found.device) == (3, "no", EAGER.hardware)
    assert str(found) == f"in {found.runtime} on {EAGER.hardware}, batch 3, precision no"


def test_passes_are_timed_in_eval_mode_without_gradients() -> None:
    class Watched(Sleeper):
        seen: ClassVar[set[tuple[bool, bool]]] = set()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.add((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    model = Watched().train()
    network_latencies([model], images(), runtime=EAGER, patience=SHORT)
    measure_latency(model, images(), repeats=1, warm_up=1)
    assert Watched.seen == {(False, False)}
