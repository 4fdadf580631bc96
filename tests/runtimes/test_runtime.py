"""What every runtime keeps to: it runs copies in eval mode, and gives the network's own outputs."""

import shutil

import pytest
import torch
from models import TinyResNet, images
from torch import nn

from refiner.core.errors import ModelError
from refiner.runtimes.choice import make_runtime
from refiner.runtimes.runtime import Runtime
from refiner.runtimes.timing import Patience, timed

CPU = torch.device("cpu")
NAMES = (
    "eager",
    "onnxruntime",
    "openvino",
    pytest.param(
        "compile", marks=pytest.mark.skipif(not shutil.which("g++"), reason="there is no compiler")
    ),
)


@pytest.fixture(params=NAMES)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return make_runtime(request.param, CPU, threads=1)


def test_passes_take_time_and_the_network_stays_as_it_was(runtime: Runtime) -> None:
    model = TinyResNet().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    threads = torch.get_num_threads()
    one = runtime.prepare(model, images(3))
    (times,) = timed([one], runtime, Patience(repeats=2, most=2, warm_up=1))
    assert len(times) == 2
    assert min(times) > 0
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.get_num_threads() == threads


def test_it_says_what_it_is(runtime: Runtime) -> None:
    assert runtime.version[0].isdigit()
    assert runtime.hardware.endswith(", 1 thread")
    assert runtime.precision == "no"
    assert runtime.device == CPU


class Pair(nn.Module):
    """Takes two tensors by name, and leaves one of them unread."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image: torch.Tensor, other: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.conv(image), "same": other + 1}


def test_inputs_by_name_and_dictionaries_of_outputs(runtime: Runtime) -> None:
    one = runtime.prepare(Pair(), {"image": images(2), "other": torch.ones(2)})
    assert timed([one], runtime, Patience(repeats=1, most=1, warm_up=0))[0][0] > 0


def test_inputs_by_name_in_another_order(runtime: Runtime) -> None:
    one = runtime.prepare(Pair(), {"other": torch.ones(2), "image": images(2)})
    assert timed([one], runtime, Patience(repeats=1, most=1, warm_up=0))[0][0] > 0


class Refused(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.qr(x)[0] if x.sum().item() > 1e9 else torch.special.bessel_j0(x)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_network_that_a_runtime_cannot_hold_is_named(name: str) -> None:
    with pytest.raises(ModelError, match="ONNX cannot hold this model"):
        make_runtime(name, CPU).prepare(Refused(), images())
