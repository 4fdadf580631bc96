"""The preprocessing that an export carries, so that its reader need not know where it came from.

TorchScript and ``torch.export`` hold it as the extra file ``preprocessing.json``, ONNX among its
metadata, safetensors in its header, and plain Python as a function.
"""

import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image

from refiner.core.preprocessing import Preprocessing
from refiner.data import pixels
from refiner.data.image_loaders import normalised

EXTRA_FILE = "preprocessing.json"
"""Name of the extra file in TorchScript and ``torch.export``."""
_KEY = "preprocessing"
_IMPORTS = """import json
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn
"""
_PREPROCESS = '''def preprocess(images):
    """Return pictures as the network's input: float32, N x {channels} x {height} x {width}.

    A picture is a path, an image of Pillow, or an array, uint8, H x W x 3 (H x W if grey). Give one
    or a list of them.
    """
    several = isinstance(images, (list, tuple))
    return torch.stack([preprocess_one(image) for image in (images if several else [images])])


def preprocess_one(image):
    """Return a picture as one input, without the dimension of the batch."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    elif not isinstance(image, Image.Image):
        image = Image.open(image)
    image = fitted(coloured(upright(image), CHANNELS), SIZE, COVERS, INTERPOLATION)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    return (to_tensor(image).float() / 255 - mean) / std
'''


def extra_files(preprocessing: Preprocessing | None) -> dict[str, str]:
    """Return the extra files of TorchScript and ``torch.export``."""
    return {} if preprocessing is None else {EXTRA_FILE: _as_text(preprocessing)}


def metadata(preprocessing: Preprocessing | None) -> dict[str, str] | None:
    """Return the metadata of a safetensors file; None for none."""
    return None if preprocessing is None else {_KEY: _as_text(preprocessing)}


def add_to_onnx(file: Path, preprocessing: Preprocessing | None) -> None:
    """Write the preprocessing among the metadata of an ONNX file: whole, and its parts by name."""
    if preprocessing is None:
        return
    import onnx

    model = onnx.load(str(file))
    parts = {
        _KEY: _as_text(preprocessing),
        "mean": _numbers(preprocessing.mean),
        "std": _numbers(preprocessing.std),
        "size": _numbers(preprocessing.size),
        "classes": json.dumps(preprocessing.classes, ensure_ascii=False),
    }
    onnx.helper.set_model_props(
        model, {**{entry.key: entry.value for entry in model.metadata_props}, **parts}
    )
    onnx.save(model, str(file))


def python_head(preprocessing: Preprocessing) -> tuple[str, str]:
    """Return what the docstring of plain PyTorch says of its inputs, and its imports."""
    shape = f"{preprocessing.channels} x {preprocessing.size[0]} x {preprocessing.size[1]}"
    names = [str(name) for name in preprocessing.classes]
    shown = ", ".join(names[:10]) + (f", ... ({len(names)} in all)" if len(names) > 10 else "")
    lines = [
        f"Inputs are N x {shape}; preprocess() makes them of pictures, with numpy and Pillow.",
        f"Mean {_numbers(preprocessing.mean)} and std {_numbers(preprocessing.std)} are on the",
        f"scale 0 to 1; they are from {_plain(preprocessing.source)}.",
    ]
    lines += [f"Classes, in the order of the outputs: {_plain(shown)}."] if names else []
    return "\n".join(lines), _IMPORTS


def python_functions(preprocessing: Preprocessing) -> str:
    """Return the constants and functions of plain Python that make an input of a picture."""
    height, width = preprocessing.size
    constants = [
        f"CHANNELS = {preprocessing.channels}",
        f"MEAN = {preprocessing.mean!r}",
        f"STD = {preprocessing.std!r}",
        f"SIZE = {preprocessing.size!r}  # height and width of an input",
        f"COVERS = {preprocessing.covers!r}  # a picture is scaled to cover this, then cut",
        f"INTERPOLATION = {preprocessing.interpolation!r}",
        f"CLASSES = {preprocessing.classes!r}",
    ]
    main = _PREPROCESS.format(channels=preprocessing.channels, height=height, width=width)
    steps = (pixels.has_16_bits, pixels.upright, pixels.coloured, pixels.fitted, pixels.to_tensor)
    return "\n\n\n".join(["\n".join(constants), main.rstrip(), *map(_source, steps)]) + "\n"


def check_preprocess(module: ModuleType, preprocessing: Preprocessing) -> None:
    """Raise an AssertionError unless a loaded module prepares pictures as its run did."""
    height, width = (2 * side + 1 for side in preprocessing.covers)
    drawn = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    colours = pixels.coloured(pixels.upright(Image.fromarray(drawn)), preprocessing.channels)
    cut = pixels.fitted(
        colours, preprocessing.size, preprocessing.covers, preprocessing.interpolation
    )
    expected = normalised(pixels.to_tensor(cut), preprocessing)
    assert torch.equal(module.preprocess(drawn), expected[None]), "preprocess() differs"


def _source(function: object) -> str:
    return inspect.getsource(function).rstrip()  # type: ignore[arg-type]


def _as_text(preprocessing: Preprocessing) -> str:
    return json.dumps(preprocessing.to_json(), ensure_ascii=False)


def _numbers(values: Iterable[float]) -> str:
    return ",".join(map(str, values))


def _plain(text: str) -> str:
    """Return a text that can stand in a docstring: a name may hold anything."""
    return "".join(c if c.isprintable() else " " for c in text).replace("\\", "/").replace('"', "'")
