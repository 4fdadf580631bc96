import subprocess
import sys

import pytest
import torch
from models import TinyResNet, images
from torch import nn

from refiner.core.errors import ConfigError, ModelError
from refiner.exports.exporting import export
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space


def test_a_file_that_needs_torch_alone(tmp_path) -> None:
    model, x = TinyResNet(), images(count=2)
    rewritten = rewrite(model, search_space(model, x).architecture((1, 2, 3, 1)))
    assert export(rewritten, tmp_path / "m.ts", x) == "TorchScript, made by script, any batch size"
    torch.save(images(count=5, seed=4), tmp_path / "x.pt")
    code = (
        "import sys, torch\n"
        f"x = torch.load(r'{tmp_path}/x.pt', weights_only=True)\n"
        f"torch.save(torch.jit.load(r'{tmp_path}/m.ts')(x), r'{tmp_path}/y.pt')\n"
        "assert 'refiner' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path)
    with torch.no_grad():
        expected = rewritten.eval()(images(count=5, seed=4))
    assert torch.allclose(torch.load(tmp_path / "y.pt", weights_only=True), expected, atol=1e-5)


def test_what_cannot_be_scripted_is_traced(tmp_path) -> None:
    class Unscriptable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, *args, **kwargs):
            return self.conv(args[0])

    assert (
        export(Unscriptable(), tmp_path / "m.ts", images())
        == "TorchScript, made by trace, any batch size"
    )


def test_the_model_keeps_its_mode(tmp_path) -> None:
    model = TinyResNet().train()
    export(model, tmp_path / "m.ts", images())
    assert all(m.training for m in model.modules())


def test_what_neither_way_can_hold_is_refused_and_leaves_nothing(tmp_path) -> None:
    class Restless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, *args):
            self.calls += 1
            return args[0] * self.calls

    with pytest.raises(ModelError, match="TorchScript cannot hold this model"):
        export(Restless(), tmp_path / "m.ts", images())
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="torchscript"):
        export(TinyResNet(), tmp_path / "m", images(), format="tflite")


@pytest.mark.parametrize("form", ["python", "onnx", "pt2"])
def test_the_other_forms_take_any_batch_and_leave_no_partial_file(form, tmp_path) -> None:
    how = export(TinyResNet(), tmp_path / f"out.{form}", images(), form)
    assert "any batch size" in how
    assert [p.name for p in tmp_path.iterdir()] == [f"out.{form}"]


def test_pt2_wants_its_suffix(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.pt2"):
        export(TinyResNet(), tmp_path / "out", images(), "pt2")


def test_what_holds_for_the_example_alone_is_refused_or_said(tmp_path) -> None:
    class Baked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            y = self.conv(x) * float(x.max())
            return y * 2 if len(x) > 3 else y

    with pytest.raises(ModelError, match="not close"):
        export(Baked(), tmp_path / "out", images(), "python")

    class Branches(Baked):
        def forward(self, x):
            y = self.conv(x)
            return y * 2 if x.sum() > 1e6 else y

    note = "what depends on the input's values is as on the example"
    assert note in export(Branches(), tmp_path / "branch", images(), "python")
    assert note not in export(Branches(), tmp_path / "branch.ts", images(), "torchscript")
    assert note not in export(TinyResNet(), tmp_path / "plain", images(), "python")
    assert "any batch size" in export(Baked(), tmp_path / "out.ts", images(), "torchscript")


def test_the_callers_input_and_model_stay_as_they_are(tmp_path) -> None:
    class Doubles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x.mul_(2))

    x = images()
    before = x.clone()
    for form in ("torchscript", "python"):
        export(Doubles(), tmp_path / form, x, form)
    assert torch.equal(x, before)


def test_a_batch_of_one_is_no_constant(tmp_path) -> None:
    assert "any batch size" in export(TinyResNet(), tmp_path / "out.pt2", images(1), "pt2")


def test_pt2_of_a_mapping(tmp_path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, left, right):
            return self.conv(left) - right.mean()

    for form in ("pt2", "onnx", "python", "torchscript"):
        how = export(
            Two(), tmp_path / f"out.{form}", {"right": images(seed=1), "left": images()}, form
        )
        assert "any batch size" in how, form


def test_what_no_exporter_takes_is_refused_and_leaves_nothing(tmp_path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return {"x": self.conv(x), "odd": object()}

    for form in ("python", "pt2"):
        with pytest.raises(ModelError, match="cannot hold this model"):
            export(Odd(), tmp_path / f"out.{form}", images(), form)
    assert not list(tmp_path.iterdir())


def test_a_name_that_says_another_format_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="Choose the format onnx"):
        export(TinyResNet(), tmp_path / "x.onnx", images())
    assert not list(tmp_path.iterdir())
