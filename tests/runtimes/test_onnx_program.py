import onnx
import torch
from models import TinyResNet, images
from torch import nn

from refiner.runtimes.onnx_program import onnx_program


def test_norms_are_folded_and_the_size_is_that_of_the_example() -> None:
    program, inputs = onnx_program(TinyResNet().train(), images(3))
    graph = onnx.load_from_string(program).graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [3, 3, 8, 8]
    assert torch.equal(inputs["input_0"], images(3))


class Shuffled(nn.Module):
    """TorchScript's exporter has no channel shuffle, that of torch.export has."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.shuffle = nn.Conv2d(3, 4, 1), nn.ChannelShuffle(2)
        self.seen: tuple[int, ...] = ()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.seen != tuple(x.shape):  # kept, as detectors keep their anchors
            self.seen, self.anchors = tuple(x.shape), torch.full((1,), float(x.amax() * 0))
        return self.shuffle(self.conv(x)) + self.anchors


def test_what_torchscript_cannot_record_is_recorded_by_torch_export(capfd) -> None:
    program, inputs = onnx_program(Shuffled(), images(1))
    assert onnx.load_from_string(program).graph.input[0].name == "input_0"
    assert list(inputs) == ["input_0"]
    assert capfd.readouterr() == ("", "")
