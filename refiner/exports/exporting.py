"""Export a model to a form that lives without refiner; believed once it has been loaded again.

The returned line names the form, how it was made, and the batch sizes at which it equals the model.
The batch size stays open where the model allows it; else the export is made for the example's.
"""

import contextlib
import os
import shutil
from functools import partial
from os import PathLike
from pathlib import Path

from torch import nn

from refiner.core.errors import ConfigError, ModelError
from refiner.core.files import put_in_place
from refiner.core.inputs import ExampleInput, to_device_of
from refiner.core.lightning_modules import scriptable
from refiner.core.preprocessing import Preprocessing
from refiner.core.surgery import copied
from refiner.exports.attempts import quiet
from refiner.exports.folding import fold_norms as without_norms
from refiner.exports.writers import FORMATS, SIZED, WRITERS
from refiner.graph.tracing import reads_values


def check_format(name: str) -> None:
    """Raise a ConfigError unless there is an export format of that name."""
    if name not in FORMATS:
        raise ConfigError(f"unknown export format {name!r}. Choose one of: {', '.join(FORMATS)}.")


def check_any_size(name: str, *, any_size: bool) -> None:
    """Raise a ConfigError unless the size of inputs may stay open in a format, where it should."""
    if any_size and name not in SIZED:
        raise ConfigError(
            f"any size goes with the formats {' and '.join(SIZED)}. In {name}, the size of inputs "
            "is as open as the model's code leaves it."
        )


def export(
    model: nn.Module,
    path: str | PathLike[str],
    example_input: ExampleInput,
    format: str = "torchscript",  # noqa: A002
    preprocessing: Preprocessing | None = None,
    *,
    fold_norms: bool = False,
    any_size: bool = False,
) -> str:
    """Write ``model`` in eval mode to ``path``, load it again, compare, and return how it was made.

    - ``torchscript``: by ``torch.jit.script``, which keeps control flow, or where the model's code
      cannot be scripted by ``torch.jit.trace``. Where the output is none that TorchScript knows,
      the file takes and returns a tuple of tensors.
    - ``python``: a folder with ``model.py``, plain PyTorch to read, and ``model.safetensors``.
    - ``onnx``: for the newest opset that the installed torch writes; checked with onnxruntime.
    - ``pt2``: ``torch.export``.
    - ``ultralytics``: a checkpoint for its ``YOLO(...)``, of a model of that package.
    - ``transformers``: a folder for :func:`refiner.from_pretrained`, of a model of that package.
    - ``lightning``: a checkpoint for :func:`refiner.load_lightning`, of a LightningModule.

    Each holds ``preprocessing``, how pictures become inputs; the module
    :mod:`refiner.exports.embedded` says where. With ``fold_norms``, batch norms are folded into the
    convs before them (:mod:`refiner.exports.folding`), and the export is compared with that model.
    With ``any_size``, the height, width and length of inputs stay open in ``onnx`` and ``pt2``,
    where the model allows it. Other formats have that from the model's code.

    Raises:
        ConfigError: an unknown format, or a package that it needs is not installed.
        ModelError: the model cannot be held in it, or the loaded file gives other outputs.
        OSError: ``path`` cannot be written.
    """
    check_format(format)
    check_any_size(format, any_size=any_size)
    if format == "pt2" and not str(path).endswith(".pt2"):
        raise ConfigError(f"torch.export.load wants a name that ends in .pt2, {path} does not.")
    ending = Path(path).suffix.removeprefix(".")
    if ending != format and ending in FORMATS:
        raise ConfigError(
            f"{path} is to hold {format}, and its name says {ending}. Choose the format "
            f"{ending}, or rename the file."
        )
    work = copied(model).cpu().eval()
    example = to_device_of(work, example_input)
    folded = 0
    if fold_norms:
        work, folded = without_norms(work, example)
    path = Path(path)
    beside = path.with_name(path.name + ".partial")
    _remove(beside)
    try:
        beside.mkdir()
        with quiet(), scriptable(work):
            write = partial(SIZED[format], any_size=True) if any_size else WRITERS[format]
            made = write(work, beside, example, preprocessing)
            how = str(made)
            if any_size and not made.sizes.fixed:
                how += ", inputs of any size that the model takes"
            with contextlib.suppress(ModelError):
                if " by script" not in how and reads_values(work, example):
                    how += "; what depends on the input's values is as on the example"
        if made.path.is_dir() and path.is_dir():
            for file in made.path.iterdir():
                os.replace(file, path / file.name)
        elif made.path.is_dir():
            os.replace(made.path, path)
        else:
            put_in_place(made.path, path)
    finally:
        _remove(beside)
    return f"{how}; {folded} batch norms folded" if fold_norms else how


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
