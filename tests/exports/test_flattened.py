from dataclasses import dataclass

import torch
from torch import nn

import refiner
from refiner.exports.flattened import Flattened, output_names


@dataclass
class Output:
    """As models of other libraries return."""

    logits: torch.Tensor
    parts: list[torch.Tensor]


class Model(nn.Module):
    """Gives tensors in an object, and one in a mapping beside a number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, pixels, scale=2):
        x = self.conv(pixels) * scale
        return Output(logits=x.mean((2, 3)), parts=[x, x + 1]), {"sum": x.sum(1), "scale": scale}


def example() -> dict[str, object]:
    return {"pixels": torch.randn(2, 3, 6, 6), "scale": 3}


def test_it_takes_and_returns_tensors_in_order() -> None:
    model, given = Model().eval(), example()
    output, more = model(**given)
    flat = Flattened(model, given)(given["pixels"])
    expected = (output.logits, *output.parts, more["sum"])
    assert all(torch.equal(a, b) for a, b in zip(flat, expected, strict=True))
    assert output_names(model, given) == "0.logits, 0.parts.0, 0.parts.1, 1.sum"


def test_torchscript_holds_models_whose_output_it_cannot_name(tmp_path) -> None:
    model, given = Model().eval(), example()
    how = refiner.export(model, tmp_path / "model.ts", given)
    assert how == (
        "TorchScript, made by trace, a tuple of the outputs 0.logits, 0.parts.0, 0.parts.1, 1.sum, "
        "any batch size"
    )
    loaded = torch.jit.load(str(tmp_path / "model.ts"))
    torch.testing.assert_close(loaded(given["pixels"])[0], model(**given)[0].logits)
