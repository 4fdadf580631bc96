"""The open dimensions of an ONNX file have names that a reader understands."""

from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from refiner.exports.exporting import export
from refiner.exports.onnx_names import name_dimensions


def dimensions(file: Path) -> dict[str, list[str | int]]:
    graph = onnx.load(str(file)).graph
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }


def test_batch_height_and_width_of_an_export(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU()).eval()
    file = tmp_path / "net.onnx"
    export(net, file, torch.randn(2, 3, 8, 8), "onnx", any_size=True)
    found = list(dimensions(file).values())
    assert found[0] == ["batch", 3, "height", "width"]
    assert found[1][:2] == ["batch", 4]
    assert "height" in str(found[1][2])
    assert "width" in str(found[1][3])


def test_one_meaning_of_two_inputs(tmp_path: Path) -> None:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("a", ["s0", 2, "s1"]), ("b", ["s0", 2, "s2"]), ("c", ["s0", 4]))
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["s0", "s1 + 2*s2"])
    nodes = [helper.make_node("Identity", ["a"], ["y"])]
    file = tmp_path / "x.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", values, [output])), str(file))
    name_dimensions(file)
    assert dimensions(file) == {
        "a": ["batch", 2, "length"],
        "b": ["batch", 2, "b_length"],
        "c": ["batch", 4],
        "y": ["batch", "length + 2*b_length"],
    }
