import torch
from models import ActivatedNorm, PlainNet, images
from torch import nn

from refiner.exports.python_source import python_source


class Branched(nn.Module):
    """Both the norm's input and its output are read again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), ActivatedNorm(3)

    def forward(self, x):
        x = self.conv(x)
        y = self.norm(x)
        return x + y * y


def built(model: nn.Module, methods: bool = True):
    source = python_source(model, images(), "net", methods=methods)
    scope: dict = {"__file__": "model.py"}
    exec(source.code, scope)
    again = scope["Model"]()
    again.load_state_dict(source.weights)
    return source.code, again


def test_the_norm_of_a_subclass_is_written_as_a_layer_that_trains() -> None:
    model, x = Branched(), images(seed=3)
    for _ in range(3):
        model(x)  # statistics of its own
    code, again = built(model)
    assert "self.norm = nn.BatchNorm2d(num_features=3)" in code
    assert "native_batch_norm" not in code
    assert again.state_dict().keys() == model.state_dict().keys()
    for training in (False, True):
        model.train(training), again.train(training)
        assert torch.allclose(again(x), model(x), atol=1e-6)
    assert torch.allclose(again.norm.running_mean, model.norm.running_mean)
    code, again = built(model, methods=False)
    assert "torch.ops.aten.native_batch_norm" in code
    assert torch.allclose(again.eval()(x), model.eval()(x), atol=1e-6)


def test_flatten_holds_no_count_of_channels_nor_the_batch() -> None:
    code, _ = built(PlainNet())
    assert "x = x.flatten(2)" in code
    assert "n = x.shape[0]" not in code
