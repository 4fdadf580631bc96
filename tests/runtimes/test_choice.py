import pytest
import torch

from refiner.core.errors import ConfigError
from refiner.runtimes.choice import RUNTIMES, check_runtime, make_runtime, runtimes_here

CPU = torch.device("cpu")


def test_auto_is_onnxruntime_on_a_cpu_and_eager_elsewhere() -> None:
    assert make_runtime("auto", CPU).name == "onnxruntime"
    assert make_runtime("auto", torch.device("meta")).name == "eager"


def test_threads_are_those_of_torch_by_default() -> None:
    assert f", {torch.get_num_threads()} thread" in make_runtime("eager", CPU).hardware
    assert make_runtime("eager", CPU, threads=5).hardware.endswith("5 threads")


def test_wrong_choices_name_the_next_step(monkeypatch) -> None:
    with pytest.raises(ConfigError, match="unknown runtime 'tflite'. Choose one of: auto, eager"):
        check_runtime("tflite")
    with pytest.raises(ConfigError, match="threads is 0. Give 1 or more."):
        make_runtime("eager", CPU, threads=0)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="needs the package openvino.*pip install openvino"):
        check_runtime("openvino")


def test_the_runtimes_of_this_machine_are_those_that_can_be_made() -> None:
    here = runtimes_here(CPU)
    assert {"eager", "compile", "onnxruntime"} <= set(here) <= set(RUNTIMES)
    assert "tensorrt" not in here
