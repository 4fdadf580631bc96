import torch
from models import TinyResNet, images
from torch import nn

import refiner
from refiner.graph.probe import irreplaceable
from refiner.graph.tracing import trace_model


class Reads(nn.Module):
    """A forward that reads an attribute of one conv, and asks for the class of another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.read = nn.Conv2d(4, 4, 3, padding=1)
        self.asked = nn.Conv2d(4, 4, 3, padding=1)
        self.free = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.read(self.stem(x)) + self.read.output_padding[0]
        if isinstance(self.asked, nn.Conv2d):
            x = self.asked(x)
        return self.norm(self.free(x)).mean((2, 3))


def test_convs_that_the_model_reads_are_kept_apart() -> None:
    groups = [["read"], ["asked"], ["free", "norm"]]
    assert irreplaceable(trace_model(Reads(), images()), groups) == [0, 1]
    assert (
        irreplaceable(trace_model(TinyResNet(), images()), [["block1.conv1"], ["block1.conv2"]])
        == []
    )


def test_such_convs_are_frozen_with_the_reason() -> None:
    space = refiner.search_space(Reads(), images())
    assert [slot.name for slot in space.slots] == ["free"]
    reasons = {frozen.name: frozen.reason for frozen in space.frozen}
    assert "other ways than by calling" in reasons["read"]
    assert "other ways than by calling" in reasons["asked"]


class CallsFromAList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.layers = [self.one]

    def forward(self, x):
        return self.two(self.layers[0](self.stem(x)))


def test_a_conv_that_is_called_from_a_list_is_frozen_with_the_list() -> None:
    space = refiner.search_space(CallsFromAList(), images())
    assert [slot.name for slot in space.slots] == ["two"]
    reasons = {frozen.name: frozen.reason for frozen in space.frozen}
    assert reasons["one"] == (
        "CallsFromAList.layers[0] holds it as well, and would not call what replaces it"
    )
