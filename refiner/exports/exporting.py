"""Export a model to a form that lives without refiner; believed once it has been loaded again.

The returned line names the form, how it was made, and the batch sizes at which it equals the model.
The batch size stays open where the model allows it; else the export is made for the example's.
"""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from refiner.core.batches import batch_size
from refiner.core.contents import tensors_in
from refiner.core.errors import ConfigError, ModelError
from refiner.core.files import put_in_place
from refiner.core.inputs import ExampleInput, call, call_arguments, to_device_of
from refiner.core.lightning_modules import scriptable
from refiner.core.preprocessing import Preprocessing
from refiner.core.surgery import copied
from refiner.exports.attempts import Attempt, Made, best_of, quiet
from refiner.exports.batch_sizes import batch_sizes, only
from refiner.exports.embedded import add_to_onnx, check_preprocess, extra_files, metadata
from refiner.exports.flattened import Flattened, output_names
from refiner.exports.folding import fold_norms as without_norms
from refiner.exports.lightning_checkpoint import written_and_loaded
from refiner.exports.programs import open_batch, program
from refiner.exports.python_source import python_source
from refiner.exports.yolo_checkpoint import read_checkpoint, write_checkpoint
from refiner.graph.tracing import reads_values

_ONNX_TOLERANCE = 1e-3
"""onnxruntime fuses operations and sums in another order."""


def check_format(name: str) -> None:
    """Raise a ConfigError unless there is an export format of that name."""
    if name not in FORMATS:
        raise ConfigError(f"unknown export format {name!r}. Choose one of: {', '.join(FORMATS)}.")


def export(
    model: nn.Module,
    path: str | PathLike[str],
    example_input: ExampleInput,
    format: str = "torchscript",  # noqa: A002
    preprocessing: Preprocessing | None = None,
    *,
    fold_norms: bool = False,
) -> str:
    """Write ``model`` in eval mode to ``path``, load it again, compare, and return how it was made.

    - ``torchscript``: by ``torch.jit.script``, which keeps control flow, or where the model's code
      cannot be scripted by ``torch.jit.trace``. Where the output is none that TorchScript knows,
      the file takes and returns a tuple of tensors.
    - ``python``: a folder with ``model.py``, plain PyTorch to read, and ``model.safetensors``.
    - ``onnx``: for the newest opset that the installed torch writes; checked with onnxruntime.
    - ``pt2``: ``torch.export``.
    - ``ultralytics``: a checkpoint for its ``YOLO(...)``, of a model of that package.
    - ``lightning``: a checkpoint for :func:`refiner.load_lightning`, of a LightningModule.

    Each holds ``preprocessing``, how pictures become inputs; the module
    :mod:`refiner.exports.embedded` says where. With ``fold_norms``, batch norms are folded into the
    convs before them (:mod:`refiner.exports.folding`), and the export is compared with that model.

    Raises:
        ConfigError: an unknown format, or a package that it needs is not installed.
        ModelError: the model cannot be held in it, or the loaded file gives other outputs.
        OSError: ``path`` cannot be written.
    """
    check_format(format)
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
            made = _WRITERS[format](work, beside, example, preprocessing)
            how = str(made)
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


def _write_torchscript(
    model: nn.Module, folder: Path, example: ExampleInput, prepared: Preprocessing | None
) -> Made:
    def made(scripted: Any, path: Path, how: str, run: Callable[[Any, Any], Any] = call) -> Made:
        torch.jit.save(scripted, str(path), _extra_files=extra_files(prepared))
        loaded = torch.jit.load(str(path))
        sizes = batch_sizes(model, partial(run, loaded), example)
        return Made(path=path, how=f"TorchScript, made by {how}", sizes=sizes)

    def attempt(way: str, recorded: ExampleInput, path: Path) -> Made:
        args, kwargs = call_arguments(recorded)
        if way == "script":
            scripted = torch.jit.script(model)
        elif kwargs:
            scripted = torch.jit.trace(model, example_kwarg_inputs=kwargs)
        else:
            scripted = torch.jit.trace(model, args)
        return made(scripted, path, way)

    def flattened(path: Path) -> Made:
        recorded, names = open_batch(example), output_names(model, example)
        whole = Flattened(model, recorded)
        # torch would trace twice and compare, and some models keep what they compute at first.
        traced = torch.jit.trace(whole, tuple(tensors_in(recorded)), check_trace=False)
        how = f"trace, a tuple of the outputs {names}"
        return made(traced, path, how, lambda loaded, x: loaded(*tensors_in(x)))

    ways: dict[str, Attempt] = {
        way: partial(attempt, way, open_batch(example)) for way in ("script", "trace")
    }
    if batch_size(example) == 1:
        ways["trace of one sample"] = partial(attempt, "trace", example)
    ways["trace of its tensors"] = flattened
    return best_of("TorchScript", ways, folder)


def _write_python(
    model: nn.Module, folder: Path, example: ExampleInput, prepared: Preprocessing | None
) -> Made:
    title = type(model).__name__

    def attempt(methods: bool, recorded: ExampleInput, path: Path) -> Made:
        source = python_source(model, recorded, title, methods=methods, preprocessing=prepared)
        path.mkdir()
        (path / "model.py").write_text(source.code, encoding="utf-8")
        weights = {k: v.detach().clone().contiguous() for k, v in source.weights.items()}
        save_file(weights, path / "model.safetensors", metadata=metadata(prepared))
        module = python_module(path)
        loaded = module.load()
        if prepared is not None:
            check_preprocess(module, prepared)
        sizes = batch_sizes(model, lambda x: call(loaded, x), example)
        if not source.any_batch and recorded is not example:
            raise ModelError("the batch size cannot stay open")
        if not source.any_batch:
            sizes = only(example)
        elif not sizes.complete or sizes.refused:
            text = source.code.replace(f'"""{title}\n', f'"""{title}: {sizes}\n', 1)
            (path / "model.py").write_text(text, encoding="utf-8")
        shutil.rmtree(path / "__pycache__", ignore_errors=True)
        return Made(path=path, how="plain PyTorch", sizes=sizes)

    ways = {
        "with methods": partial(attempt, True, open_batch(example)),
        "operation by operation": partial(attempt, False, open_batch(example)),
    }
    if batch_size(example) == 1:
        ways["with methods, of one sample"] = partial(attempt, True, example)
        ways["operation by operation, of one sample"] = partial(attempt, False, example)
    return best_of("plain PyTorch", ways, folder)


def python_module(folder: Path) -> Any:
    """Run the ``model.py`` of an export in plain PyTorch, and return the module that it is."""
    spec = importlib.util.spec_from_file_location("_refiner_exported", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write_pt2(
    model: nn.Module, folder: Path, example: ExampleInput, prepared: Preprocessing | None
) -> Made:
    def attempt(dynamic: bool, path: Path) -> Made:
        recorded = program(model, example, dynamic=dynamic)
        torch.export.save(recorded, path, extra_files=extra_files(prepared))
        loaded = torch.export.load(path).module()
        sizes = batch_sizes(model, lambda x: call(loaded, x), example)
        return Made(path=path, how="torch.export", sizes=sizes)

    ways = {"any batch size": partial(attempt, True), "fixed batch size": partial(attempt, False)}
    return best_of("torch.export", ways, folder, ".pt2")  # torch insists on the suffix


def _write_onnx(
    model: nn.Module, folder: Path, example: ExampleInput, prepared: Preprocessing | None
) -> Made:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"ONNX wants the package {error.name}. Install it: pip install {error.name}."
        ) from error

    def write(way: str, path: Path) -> None:
        if way == "torch.export":
            recorded = program(model, example, dynamic=True)
            torch.onnx.export(recorded, (), path, dynamo=True, external_data=False)
        elif way == "fixed batch size":
            args, kwargs = call_arguments(example)
            torch.onnx.export(model, args, path, kwargs=kwargs, dynamo=True, external_data=False)
        else:
            args, kwargs = call_arguments(open_batch(example))
            names = [f"input_{i}" for i in range(len(tensors_in(example)))]
            torch.onnx.export(
                model, (*args, kwargs) if kwargs else args, path, dynamo=False,
                input_names=names, dynamic_axes={name: {0: "batch"} for name in names},
            )  # fmt: skip

    def attempt(way: str, path: Path) -> Made:
        write(way, path)
        add_to_onnx(path, prepared)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # it would warn of each batch size that does not fit
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        names = [entry.name for entry in session.get_inputs()]

        def run(given: Any) -> list[torch.Tensor]:
            arrays = [tensor.numpy() for tensor in tensors_in(given)]
            return [
                torch.from_numpy(a)
                for a in session.run(None, dict(zip(names, arrays, strict=True)))
            ]

        sizes = batch_sizes(model, run, example, _ONNX_TOLERANCE)
        opset = max(o.version for o in onnx.load(str(path)).opset_import if o.domain == "")
        return Made(path=path, how=f"ONNX opset {opset}, made by {way}", sizes=sizes)

    ways = ("torch.export", "TorchScript", "fixed batch size")
    return best_of("ONNX", {way: partial(attempt, way) for way in ways}, folder)


def _write_ultralytics(
    model: nn.Module, folder: Path, example: ExampleInput, _prepared: Preprocessing | None
) -> Made:
    def attempt(path: Path) -> Made:
        alone = write_checkpoint(model, path)
        loaded = read_checkpoint(path)
        sizes = batch_sizes(model, lambda x: call(loaded, x), example)
        where = "" if alone else ", which loads where refiner is installed"
        return Made(path=path, how=f"checkpoint of ultralytics{where}", sizes=sizes)

    return best_of("ultralytics", {"pickle": attempt}, folder, ".pt")


def _write_lightning(
    model: nn.Module, folder: Path, example: ExampleInput, _prepared: Preprocessing | None
) -> Made:
    def attempt(path: Path) -> Made:
        loaded, how = written_and_loaded(model, path)
        sizes = batch_sizes(model, lambda x: call(loaded, x), example)
        return Made(path=path, how=how, sizes=sizes)

    return best_of("lightning", {"state dict": attempt}, folder, ".ckpt")


_WRITERS: dict[str, Callable[[nn.Module, Path, Any, Preprocessing | None], Made]] = {
    "torchscript": _write_torchscript,
    "python": _write_python,
    "onnx": _write_onnx,
    "pt2": _write_pt2,
    "ultralytics": _write_ultralytics,
    "lightning": _write_lightning,
}
FORMATS = tuple(_WRITERS)
GENERAL = tuple(name for name in FORMATS if name not in ("ultralytics", "lightning"))
"""Formats for models of any library."""
