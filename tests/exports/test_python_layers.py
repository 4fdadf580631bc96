import pytest
import torch
from models import ActivatedNorm, images
from torch import fx, nn

from refiner.exports.python_layers import batch_norm, layer_arguments, merged_dimensions
from refiner.graph.recording import Recorder


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


def recorded(model: nn.Module, x: torch.Tensor) -> list[fx.Node]:
    recorder = Recorder(model, lambda _module: False, {"x": x})
    with recorder:
        output = model(x)
    return list(recorder.finish(output).nodes)


def test_the_operation_of_a_batch_norm_is_known_for_a_layer_in_eval_mode_alone() -> None:
    model, x = nn.Sequential(ActivatedNorm(3, eps=1e-3, momentum=0.2)), images()
    found = [f for f in (batch_norm(model, n) for n in recorded(model.eval(), x)) if f]
    assert [path for path, _ in found] == ["0"]
    layer = found[0][1]
    assert type(layer) is nn.BatchNorm2d
    assert (layer.num_features, layer.eps, layer.momentum) == (3, 1e-3, 0.2)
    assert layer.state_dict().keys() == model[0].state_dict().keys()
    assert not any(batch_norm(model, n) for n in recorded(model.train(), x))
    plain = nn.Sequential(nn.BatchNorm2d(3, affine=False))  # has no weight of its own
    assert not any(batch_norm(plain, n) for n in recorded(plain.eval(), x))


@pytest.mark.parametrize(
    ("shape", "merged"),
    [
        ((2, 60), "(1)"), ((2, 3, 20), "(2)"), ((2, 12, 5), "(1, 2)"), ((6, 4, 5), "(0, 1)"),
        ((2, 3, 2, 2, 5), None), ((2, 30, 2), None), ((120,), "(0)"), ((2, 3, 4, 5), None),
    ],
)  # fmt: skip
def test_which_views_flatten(shape: tuple[int, ...], merged: str | None) -> None:
    class View(nn.Module):
        def forward(self, x):
            return x.view(shape)

    x = torch.zeros(2, 3, 4, 5)
    assert [merged_dimensions(n) for n in recorded(View(), x) if n.op == "call_function"] == [
        merged
    ]
