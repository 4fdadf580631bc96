import pytest
import torch
from models import TinyResNet, images
from torch import nn

import refiner
from refiner.exports.writers import GENERAL
from refiner.runtimes.choice import make_runtime
from refiner.runtimes.loaded import load_export

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "runtime"), [*((name, "onnxruntime") for name in GENERAL), ("onnx", "openvino")]
)
def test_an_export_is_a_module_that_computes_the_same_on_any_batch(tmp_path, name, runtime) -> None:
    model, x = TinyResNet().eval(), images(5)
    file = tmp_path / f"model.{name}"
    refiner.export(model, file, images(1), name)
    loaded = load_export(name, file, model, images(1), make_runtime(runtime, CPU, threads=1))
    assert isinstance(loaded, nn.Module)
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(x), model(x), rtol=1e-4, atol=1e-4)


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        y = self.conv(x)
        return {"out": y, "pair": (y + 1, y.mean())}


def test_outputs_are_nested_as_the_model_nests_them(tmp_path) -> None:
    model, x = Nested().eval(), images(2)
    refiner.export(model, tmp_path / "model.onnx", x, "onnx")
    loaded = load_export(
        "onnx", tmp_path / "model.onnx", model, x, make_runtime("onnxruntime", CPU)
    )
    found = loaded(x)
    assert list(found) == ["out", "pair"]
    with torch.no_grad():
        torch.testing.assert_close(found, model(x), rtol=1e-4, atol=1e-4)
