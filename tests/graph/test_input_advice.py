import numpy as np
import pytest
import torch
from torch import nn

from refiner.graph.input_advice import advice_on_batch, advice_on_input

NET = nn.Sequential(nn.Conv2d(3, 4, 3))
X, Y = torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (X.to(torch.uint8), "uint8 and the model's weights are float32: give float32 images, scaled"),
        (X.double(), "The input is float64 and the model's weights are float32: give float32 images."),
        (X.to(torch.complex64), "The input is complex64"),
        (X.numpy(), "NumPy arrays"),
        ({"image": X, "index": Y}, "named image, index, and forward takes input"),
        (X.permute(0, 2, 3, 1), "2x8x8x3 seem to have their channels last"),
        (X[:, :1], ""),
        (X, ""),
    ],
)  # fmt: skip
def test_advice_names_the_usual_mistakes(inputs, said: str) -> None:
    found = advice_on_input(NET, inputs)
    assert said in found
    assert bool(found) == bool(said)


def test_advice_on_a_batch_is_of_its_inputs_and_never_empty() -> None:
    assert "NumPy arrays" in advice_on_batch(NET, (np.zeros((2, 3, 8, 8)), Y))
    assert "labels within its classes" in advice_on_batch(NET, (X, Y))
    assert "labels within its classes" in advice_on_batch(NET, (X, Y, Y))


def test_a_forward_of_any_keywords_gets_no_advice_on_names() -> None:
    class Any(nn.Module):
        def forward(self, **inputs): ...

    assert not advice_on_input(Any(), {"image": X})
