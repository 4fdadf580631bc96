import numpy as np
import pytest
import torch
from models import TinyResNet, images

from refiner.core.errors import ConfigError, ModelError
from refiner.runtimes.onnx_program import onnx_program
from refiner.runtimes.onnx_runtime import OnnxRuntime

CPU = torch.device("cpu")


def test_a_session_computes_what_the_network_computes() -> None:
    model, x = TinyResNet().eval(), images(2)
    (output,) = OnnxRuntime(CPU, 1).prepare(model, x)()
    with torch.no_grad():
        np.testing.assert_allclose(output, model(x).numpy(), rtol=1e-4, atol=1e-5)


def test_a_session_has_the_threads_that_were_asked_for(monkeypatch) -> None:
    import onnxruntime

    seen = []
    session = onnxruntime.InferenceSession

    def noted(program, options, providers):
        seen.append((options.intra_op_num_threads, providers))
        return session(program, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", noted)
    OnnxRuntime(CPU, 2).prepare(TinyResNet(), images())
    assert seen == [(2, ["CPUExecutionProvider"])]


def test_a_provider_that_is_missing_is_named_with_the_next_step() -> None:
    with pytest.raises(ConfigError, match="no TensorrtExecutionProvider.*onnxruntime-gpu"):
        OnnxRuntime(CPU, 1, provider="TensorrtExecutionProvider")


def test_a_program_that_is_none_or_has_other_inputs_is_refused() -> None:
    runtime = OnnxRuntime(CPU, 1)
    with pytest.raises(ModelError, match="onnxruntime cannot hold this model"):
        runtime.pass_of(b"nothing", {})
    program, inputs = onnx_program(TinyResNet(), images())
    with pytest.raises(ModelError, match="onnxruntime cannot run this model"):
        runtime.pass_of(program, {"input_0": images(channels=5)})
    assert list(inputs) == ["input_0"]
    with pytest.raises(ModelError, match="inputs of the ONNX program"):
        runtime.pass_of(program, {"other": images()})
