import onnx
import pytest
import torch
from models import TinyResNet, images

import refiner
from refiner.core.errors import ConfigError, ModelError
from refiner.exports.int8 import quantize
from refiner.runtimes.loaded import load_export
from refiner.runtimes.onnx_runtime import OnnxRuntime


def test_a_quantised_file_holds_8_bits_and_says_nearly_the_same(tmp_path, capfd) -> None:
    model, x = TinyResNet(width=16).eval(), images(4)
    plain, small = tmp_path / "plain.onnx", tmp_path / "int8.onnx"
    refiner.export(model, plain, x[:1], "onnx")
    quantize(plain, small, [images(4, seed=seed) for seed in range(4)])
    graph = onnx.load(str(small)).graph
    assert {node.op_type for node in graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    assert onnx.TensorProto.INT8 in {tensor.data_type for tensor in graph.initializer}
    assert small.stat().st_size < plain.stat().st_size
    runtime = OnnxRuntime(torch.device("cpu"), 1)
    with torch.no_grad():
        outputs = load_export("onnx", small, model, x, runtime)(x)
        assert 0 < (outputs - model(x)).abs().max() < 0.2 * model(x).abs().max()
    assert capfd.readouterr() == ("", "")


def test_no_images_and_no_model_are_refused(tmp_path) -> None:
    model, plain = TinyResNet().eval(), tmp_path / "plain.onnx"
    refiner.export(model, plain, images(1), "onnx")
    with pytest.raises(ConfigError, match="no images to calibrate on"):
        quantize(plain, tmp_path / "int8.onnx", [])
    with pytest.raises(ModelError, match="onnxruntime cannot quantise this model"):
        quantize(plain, tmp_path / "int8.onnx", [images(1, channels=5)])
    assert not (tmp_path / "int8.onnx").exists()
