import timm
import torch
from models import images
from torch import nn
from torchvision.ops import DeformConv2d, deform_conv2d

from refiner.graph.slots import find_slots
from refiner.graph.tracing import trace


def table(model: nn.Module, x: torch.Tensor):
    return find_slots(trace(model, x))


class Awkward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.read = nn.Conv2d(4, 4, 3, padding=1)
        self.unused = nn.Conv2d(4, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 3, padding=1)
        self.point = nn.Conv2d(4, 4, 1)
        self.slot = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = self.twice(self.twice(self.stem(x)))
        x = self.read(x) * self.read.weight.mean()
        return self.slot(self.point(self.up(x)))


def test_every_conv_is_a_slot_or_frozen_with_a_reason() -> None:
    found = table(Awkward(), images())
    assert [s.name for s in found.slots] == ["slot"]
    assert {f.name: f.reason for f in found.frozen} == {
        "stem": "stem: reads the model's input",
        "twice": "called more than once in a forward pass",
        "read": "its weight is read outside its own call",
        "unused": "not called on the example input",
        "up": "transposed conv",
        "point": "pointwise conv: nothing spatial to replace",
    }


def test_tied_weights_are_frozen() -> None:
    model = nn.Sequential(*[nn.Conv2d(3 if i == 0 else 4, 4, 3, padding=1) for i in range(4)])
    model[2].weight = model[1].weight
    found = table(model, images())
    assert [s.name for s in found.slots] == ["3"]
    assert {f.name: f.reason for f in found.frozen}["1"] == "shares its weight with 2"


def test_convolutions_that_are_no_conv_modules_are_frozen() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.ones(4, 4, 3, 3))

        def forward(self, x):
            return torch.nn.functional.conv2d(x, self.kernel, padding=1)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.own = nn.Conv2d(3, 4, 3), Own()
            self.kernel = nn.Parameter(torch.ones(4, 4, 3, 3))

        def forward(self, x):
            return torch.nn.functional.conv2d(self.own(self.stem(x)), self.kernel)

    assert {f.name: f.reason for f in table(Outer(), images()).frozen} == {
        "stem": "stem: reads the model's input",
        "own": "Own convolves in its own way",
        "convolution": "functional convolution",
    }


def test_a_conv_of_another_library_is_frozen_by_its_own_name() -> None:
    class MyConv(nn.Module):
        """No operation of it is a convolution."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4, 3, 3))

        def forward(self, x):
            patches = torch.nn.functional.unfold(x, 3, padding=1)
            return (self.weight.flatten(1) @ patches).view_as(x)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.offset = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 18, 3, padding=1)
            self.deform = DeformConv2d(4, 4, 3, padding=1)
            self.block = nn.Sequential(MyConv(), nn.ReLU())

        def forward(self, x):
            x = self.stem(x)
            return self.block(self.deform(x, self.offset(x)))

    found = table(Outer(), images())
    assert [slot.name for slot in found.slots] == ["offset"]
    assert {f.name: f.reason for f in found.frozen} == {
        "stem": "stem: reads the model's input",
        "deform": "DeformConv2d convolves in its own way",
        "block.0": "MyConv convolves in its own way",
    }


def test_a_deformable_conv_that_is_called_as_a_function_is_frozen() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.offset = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 18, 3, padding=1)
            self.kernel = nn.Parameter(torch.ones(4, 4, 3, 3))

        def forward(self, x):
            x = self.stem(x)
            return deform_conv2d(x, self.offset(x), self.kernel, padding=1)

    reasons = {f.name: f.reason for f in table(Outer(), images()).frozen}
    assert reasons["deform_conv2d"] == "functional convolution"


def test_a_conv_of_one_mode_alone_is_frozen() -> None:
    class Modes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.aux, self.late = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

        def forward(self, x):
            x = self.stem(x)
            return (x, self.aux(x)) if self.training else self.late(x)

    assert {f.name: f.reason for f in table(Modes(), images()).frozen} == {
        "stem": "stem: reads the model's input",
        "aux": "called in train mode alone",
        "late": "not called in train mode",
    }


def test_conv_that_pads_by_itself_is_frozen() -> None:
    model = timm.create_model("tf_mobilenetv3_small_minimal_100")
    found = table(model, images(size=64))
    assert "Conv2dSame computes its own padding" in {f.reason for f in found.frozen}
    sites = [s.sites[0] for s in found.slots]
    kept = [s for s in sites if type(model.get_submodule(s.conv)).__name__ == "Conv2dSame"]
    assert all(s.spec.stride == (1, 1) and s.spec.padding == ((1, 1), (1, 1)) for s in kept)
