import importlib.util

import onnxruntime
import pytest
import torch
from models import images
from torch import nn

from refiner.exports.exporting import export
from refiner.exports.writers import FORMATS, GENERAL, SIZED


class Squeezed(nn.Module):
    """Drops the batch of a single image, as ``squeeze()`` does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def pooled(self, x):
        return self.conv(x).relu().mean((2, 3), keepdim=True)

    def forward(self, x):
        return self.head(self.pooled(x).squeeze())


class Compares(Squeezed):
    """Compares the images of a batch; one image has nothing to be compared with."""

    def forward(self, x):
        x = self.pooled(x)[:, :, 0, 0]
        return self.head(x - x.mean(0) if len(x) > 1 else x)


class Unscripted(Compares):
    """The same, in a form that cannot be scripted, so that a trace bakes the branch in."""

    def forward(self, *args, **kwargs):
        return Compares.forward(self, args[0])


class Threshold(Squeezed):
    """Another branch on the batch size, which holds at one and two."""

    def forward(self, x, **kwargs):
        x = self.pooled(x)[:, :, 0, 0]
        return self.head(x * 2 if len(x) > 2 else x)


SIZES = (1, 2, 3, 5, 7)


def _load(form, path):
    if form == "torchscript":
        return torch.jit.load(path)
    if form == "pt2":
        return torch.export.load(path).module()
    if form == "python":
        spec = importlib.util.spec_from_file_location("exported", path / "model.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.load()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def _equal(model, loaded, x):
    try:
        with torch.no_grad():
            ours, theirs = model(x), loaded(x)
    except Exception:
        return False
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("form", ["torchscript", "python", "onnx", "pt2"])
@pytest.mark.parametrize("kind", [Squeezed, Compares, Unscripted, Threshold])
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_said_of_batch_sizes_holds(kind, form, count, tmp_path) -> None:
    """Nothing else is exported: the example itself, and each size that the line names."""
    torch.manual_seed(0)
    model, path = kind().eval(), tmp_path / f"out.{form}"
    how = export(model, path, images(count), form).partition(", inputs of")[0]
    loaded = _load(form, path)
    equal = [size for size in SIZES if _equal(model, loaded, images(size, seed=3))]
    assert count in equal
    if how.endswith("any batch size"):
        assert equal == list(SIZES)
    elif how.endswith("batches of 2 or more, not of 1"):
        assert equal == [2, 3, 5, 7]
    else:
        numbers = how.split("batches of ")[1].split(", not of ")[0].removesuffix(" alone")
        said = {int(n) for n in numbers.replace(" and ", ", ").split(", ")}
        assert said <= {*equal, 4, 9}


def test_a_trace_that_bakes_a_branch_in_says_for_which_sizes(tmp_path) -> None:
    for count, said in ((1, "batches of 1 alone"), (2, "batches of 2 or more, not of 1")):
        for form in ("torchscript", "python"):
            how = export(Unscripted(), tmp_path / f"{count}.{form}", images(count), form)
            assert said in how
    head = (tmp_path / "2.python" / "model.py").read_text().splitlines()[0]
    assert head == '"""Unscripted: batches of 2 or more, not of 1'


def test_formats_of_other_libraries_hold_no_model_of_ours() -> None:
    assert set(FORMATS) - set(GENERAL) == {"ultralytics", "transformers", "lightning"}
    assert set(SIZED) == {"onnx", "pt2"}
