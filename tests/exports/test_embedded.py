import io
import json
import sys

import numpy as np
import pytest
import torch
from image_folders import fill
from PIL import Image
from safetensors import safe_open
from torch import nn

from refiner.core.preprocessing import Preprocessing
from refiner.data.folder_parts import folder_images
from refiner.data.image_data import Options, image_data
from refiner.exports import embedded
from refiner.exports.exporting import export

PREPARED = Preprocessing(
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=(8, 8), resize=(10, 10),
    interpolation="bicubic", classes=('a "cat"', "dog\n\\"), source='the "weights"',
)  # fmt: skip
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def loaded(folder):
    """Run the exported file as its user would, without this package."""
    scope = {"__file__": str(folder / "model.py"), "__name__": "exported"}
    code = (folder / "model.py").read_text("utf-8")
    assert "import refiner" not in code
    exec(compile(code, "model.py", "exec"), scope)
    return scope


def kept(text):
    return Preprocessing.from_json(json.loads(text))


def test_torchscript_and_pt2_hold_it_as_an_extra_file(tmp_path) -> None:
    export(net(), tmp_path / "x.ts", X, preprocessing=PREPARED)
    files = {"preprocessing.json": ""}
    torch.jit.load(str(tmp_path / "x.ts"), _extra_files=files)
    assert kept(files["preprocessing.json"]) == PREPARED
    export(net(), tmp_path / "x.pt2", X, "pt2", PREPARED)
    files = {"preprocessing.json": ""}
    torch.export.load(io.BytesIO((tmp_path / "x.pt2").read_bytes()), extra_files=files)
    assert kept(files["preprocessing.json"]) == PREPARED


def test_onnx_holds_it_among_its_metadata(tmp_path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    export(net(), tmp_path / "x.onnx", X, "onnx", PREPARED)
    session = onnxruntime.InferenceSession(str(tmp_path / "x.onnx"))
    found = session.get_modelmeta().custom_metadata_map
    assert kept(found["preprocessing"]) == PREPARED
    assert (found["mean"], found["size"]) == ("0.485,0.456,0.406", "8,8")
    assert json.loads(found["classes"]) == list(PREPARED.classes)


def test_python_holds_it_as_a_function_and_in_words(tmp_path) -> None:
    export(net(), tmp_path / "x", X, "python", PREPARED)
    scope = loaded(tmp_path / "x")
    assert (scope["MEAN"], scope["CLASSES"]) == (PREPARED.mean, PREPARED.classes)
    words = scope["__doc__"]
    for part in ("preprocess(", "3 x 8 x 8", "0.485,0.456,0.406", "the 'weights'", "a 'cat', dog"):
        assert part in words
    with safe_open(tmp_path / "x" / "model.safetensors", "pt") as file:
        assert kept(file.metadata()["preprocessing"]) == PREPARED


def test_without_a_preprocessing_the_file_needs_torch_alone(tmp_path) -> None:
    export(net(), tmp_path / "x", X, "python")
    text = (tmp_path / "x" / "model.py").read_text("utf-8")
    assert "torch alone" in text
    assert "PIL" not in text


def raw(folder):
    """Write pictures of every kind, of different sizes."""
    fill(folder, ["a", "b"], 2, size=(20, 13), suffix="jpg")
    fill(folder, ["a", "b"], 1, size=(9, 30), suffix="gif")
    deep = np.random.default_rng(0).integers(0, 65536, (15, 17), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(deep).save(folder / "a" / "deep.png")
    colours = np.random.default_rng(1).integers(0, 256, (11, 14, 4), dtype=np.uint8)
    Image.fromarray(colours).save(folder / "a" / "clear.png")
    Image.fromarray(colours[..., :3]).save(folder / "b" / "turned.jpg", exif=exif)
    Image.fromarray(colours[..., :3]).convert("CMYK").save(folder / "b" / "ink.tif")
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_preprocess_gives_the_bits_of_the_runs_own_validation(tmp_path, channels) -> None:
    for part in ("train", "val"):
        raw(tmp_path / part)
    options = Options(batch_size=2, channels=channels, image_size=8)
    images = folder_images(tmp_path)
    data = image_data(images, options)
    network = nn.Sequential(nn.Conv2d(channels, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    export(network, tmp_path / "x", X[:, :channels], "python", data.preprocessing)
    scope = loaded(tmp_path / "x")
    ((expected, _),) = list(data.val)
    assert torch.equal(scope["preprocess"](list(images.val.items)), expected)
    one = Image.open(images.val.items[0])
    assert torch.equal(scope["preprocess"](one), expected[:1])
    array = np.asarray(Image.open(images.val.items[2]).convert("RGB"))
    assert torch.equal(scope["preprocess"](array), scope["preprocess"](Image.fromarray(array)))


def test_an_export_whose_function_differs_is_not_believed(tmp_path, monkeypatch) -> None:
    other = "def preprocess(images):\n    return torch.zeros(1, 3, 8, 8)\n"
    monkeypatch.setattr("refiner.exports.python_source.python_functions", lambda _: other)
    with pytest.raises(Exception, match="preprocess"):
        export(net(), tmp_path / "x", X, "python", PREPARED)
    assert not (tmp_path / "x").exists()


def test_nothing_is_written_for_none(tmp_path) -> None:
    assert embedded.extra_files(None) == {}
    assert embedded.metadata(None) is None
    embedded.add_to_onnx(tmp_path / "missing.onnx", None)
    assert "embedded" in sys.modules["refiner.exports.embedded"].__name__
