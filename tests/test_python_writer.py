import pytest
import torch
from torch import nn

from refiner.python_writer import layer_arguments


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        (nn.Conv2d(3, 4, 3, padding=1, bias=False),
         {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "padding": 1, "bias": False}),
        (nn.Conv2d(3, 4, (1, 3)), {"in_channels": 3, "out_channels": 4, "kernel_size": (1, 3)}),
        (nn.LayerNorm((5, 5), eps=1e-6), {"normalized_shape": (5, 5), "eps": 1e-6}),
        (nn.ReLU(inplace=True), {"inplace": True}),
        (nn.Linear(2, 3), {"in_features": 2, "out_features": 3}),
    ],
)  # fmt: skip
def test_a_layer_is_made_anew_from_its_arguments(layer: nn.Module, arguments: dict) -> None:
    assert layer_arguments(layer) == arguments
    again = type(layer)(**arguments)
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in layer.state_dict().items()
    }


def test_what_is_more_than_its_arguments_is_no_layer() -> None:
    class Own(nn.Conv2d):
        pass

    hooked = nn.ReLU()
    hooked.register_forward_hook(lambda _m, _i, out: out + 1)
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3))
    for module in (Own(3, 3, 3), hooked, normed, nn.Sequential(nn.ReLU()), nn.LSTM(2, 2)):
        assert layer_arguments(module) is None
    assert torch.equal(hooked(torch.zeros(1)), torch.ones(1))
