import numpy as np
import pytest
import torch
from models import TinyResNet, images

import refiner
from refiner.core.errors import ModelError
from refiner.runtimes.onnx_based import OnnxBased
from refiner.runtimes.onnx_runtime import OnnxRuntime
from refiner.runtimes.open_vino import OpenVino

CPU = torch.device("cpu")


@pytest.mark.parametrize("runtime", [OnnxRuntime(CPU, 1), OpenVino("no", 1)], ids=lambda r: r.name)
def test_a_pass_of_a_file_computes_what_the_file_holds(runtime: OnnxBased, tmp_path) -> None:
    model, x = TinyResNet().eval(), images(2)
    file = tmp_path / "net.onnx"
    refiner.export(model, file, x, "onnx")
    (output,) = runtime.pass_of_file(file, x)()
    with torch.no_grad():
        expected = model(x)
    np.testing.assert_allclose(output, expected.numpy(), rtol=1e-3, atol=1e-4)
    (again,) = runtime.program(file)([x])
    np.testing.assert_array_equal(output, again.numpy())
    with pytest.raises(ModelError, match="inputs of the ONNX program"):
        runtime.pass_of_file(file, (x, x))
