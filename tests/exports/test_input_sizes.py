import pytest
import torch
from models import TinyResNet, UNet, images
from torch import nn

from refiner.core.errors import ConfigError
from refiner.exports.exporting import export
from refiner.exports.input_sizes import fixed_size, of_other_sizes


class Whole(nn.Module):
    """Takes images of one size alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 8 * 8, 2)

    def forward(self, x):
        return self.head(x.flatten(1))


def test_other_sizes_are_larger_and_smaller_but_for_what_has_none() -> None:
    x, ids = images(2), torch.ones(2, 5)
    others = list(of_other_sizes({"x": x, "ids": ids, "scale": 2.0}))
    sizes = [(2, 3, 8 + 64, 8 + 32), (2, 3, 8 + 18, 8 + 17), (2, 3, 5, 6)]
    assert [tuple(each["x"].shape) for each in others] == sizes
    assert all(each["ids"] is ids for each in others)
    assert float(others[0]["x"].max()) == float(x.max())
    (first, *_) = of_other_sizes((torch.zeros(1, 1, 4, 4, 4),))
    assert first[0].shape == (1, 1, 100, 68, 36)
    assert list(of_other_sizes(ids)) == []


def test_a_limit_is_the_export_s_own() -> None:
    model, x = TinyResNet().eval(), images()

    def fixed(given):
        assert given.shape[-1] == 8
        return model(given)

    assert fixed_size(model, fixed, x, 1e-5) == "8 x 8"
    assert fixed_size(model, lambda given: model(given) + (given.shape[-1] > 8), x, 1e-5) == "8 x 8"
    assert fixed_size(model, model, x, 1e-5) == ""
    whole = Whole().eval()
    assert fixed_size(whole, whole, x, 1e-5) == ""


@pytest.mark.parametrize(("form", "suffix"), [("onnx", "onnx"), ("pt2", "pt2")])
def test_any_size_leaves_height_and_width_open(form, suffix, tmp_path) -> None:
    model, x = UNet().eval(), images(size=16)
    plain = export(model, tmp_path / f"a.{suffix}", x, form)
    assert plain.endswith("any batch size, inputs of 16 x 16 alone")
    open_ = export(model, tmp_path / f"b.{suffix}", x, form, any_size=True)
    assert open_.endswith("any batch size, inputs of any size that the model takes")


def test_other_formats_and_models_of_one_size(tmp_path) -> None:
    with pytest.raises(ConfigError, match="any size goes with the formats onnx and pt2"):
        export(UNet(), tmp_path / "a.ts", images(), any_size=True)
    how = export(Whole().eval(), tmp_path / "a.onnx", images(), "onnx", any_size=True)
    assert "any batch size" in how


def test_a_branch_on_the_size_is_noticed(tmp_path) -> None:
    class Branches(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) if x.shape[-1] >= 30 else x.amax((2, 3))

    how = export(Branches(), tmp_path / "a.onnx", images(size=32), "onnx", any_size=True)
    assert how.endswith("inputs of 32 x 32 alone")
