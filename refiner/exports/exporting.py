"""Export a model to a form that lives without refiner; believed once it has been loaded again.

What each form is, how it was made and whether it takes any batch size is returned as one line.
Batches are left open where the model allows it.
"""

import contextlib
import importlib.util
import io
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.batches import batch_size, doubled
from refiner.core.contents import tensors_in
from refiner.core.errors import ConfigError, ModelError
from refiner.core.files import put_in_place
from refiner.core.inputs import ExampleInput, call, call_arguments, to_device_of
from refiner.core.surgery import copied
from refiner.exports.check import attempts_in_turn, batch_note, compare
from refiner.exports.python_source import python_source
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
) -> str:
    """Write ``model`` in eval mode to ``path``, load it again, compare, and return how it was made.

    - ``torchscript``: by ``torch.jit.script``, which keeps control flow, or where the model's code
      cannot be scripted by ``torch.jit.trace``.
    - ``python``: a folder with ``model.py``, plain PyTorch to read, and ``model.safetensors``.
    - ``onnx``: for the newest opset that the installed torch writes; checked with onnxruntime.
    - ``pt2``: ``torch.export``.

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
            f"{path} is to hold {format}, but its name says {ending}. Name the format {ending}, or "
            "another file."
        )
    work = copied(model).cpu().eval()
    example = to_device_of(work, example_input)
    if batch_size(example) == 1:  # a size of one is taken for a constant
        example = doubled(example)
    path = Path(path)
    beside = path.with_name(path.name + ".partial")
    _remove(beside)
    try:
        with _quiet():
            how = _WRITERS[format](work, beside, example)
            with contextlib.suppress(ModelError):
                if " by script" not in how and reads_values(work, example):
                    how += "; what depends on the input's values is as on the example"
        if beside.is_dir() and path.is_dir():
            for file in beside.iterdir():
                os.replace(file, path / file.name)
        elif beside.is_dir():
            os.replace(beside, path)
        else:
            put_in_place(beside, path)
    finally:
        _remove(beside)
    return how


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn of their own future, and talk; neither is the user's business."""
    with (
        torch.no_grad(),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _write_torchscript(model: nn.Module, path: Path, example: ExampleInput) -> str:
    args, kwargs = call_arguments(example)

    def attempt(way: str) -> str:
        if way == "script":
            scripted = torch.jit.script(model)
        elif kwargs:
            scripted = torch.jit.trace(model, example_kwarg_inputs=kwargs)
        else:
            scripted = torch.jit.trace(model, args)
        torch.jit.save(scripted, str(path))
        loaded = torch.jit.load(str(path))
        compare(model, lambda x: call(loaded, x), example)
        note = batch_note(model, lambda x: call(loaded, x), example)
        return f"TorchScript, made by {way}, {note}"

    ways = ("script", "trace")
    return attempts_in_turn("TorchScript", {way: partial(attempt, way) for way in ways})


def _write_python(model: nn.Module, path: Path, example: ExampleInput) -> str:
    def attempt(methods: bool) -> str:
        source = python_source(model, example, type(model).__name__, methods=methods)
        path.mkdir(exist_ok=True)
        (path / "model.py").write_text(source.code, encoding="utf-8")
        weights = {k: v.detach().clone().contiguous() for k, v in source.weights.items()}
        save_file(weights, path / "model.safetensors")
        spec = importlib.util.spec_from_file_location("_refiner_exported", path / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded = module.load()
        compare(model, lambda x: call(loaded, x), example)
        note = f"batches of {batch_size(example)} alone"
        if source.any_batch:
            note = batch_note(model, lambda x: call(loaded, x), example)
        shutil.rmtree(path / "__pycache__", ignore_errors=True)
        return f"plain PyTorch, {note}"

    ways = {"with methods": True, "operation by operation": False}
    return attempts_in_turn(
        "plain PyTorch", {way: partial(attempt, methods) for way, methods in ways.items()}
    )


def _dynamic_shapes(example: ExampleInput) -> tuple[Any, Any]:
    """Return for each positional and keyword argument which dimension is the batch."""
    size, auto = batch_size(example), torch.export.Dim.AUTO
    args, kwargs = call_arguments(example)

    def of(value: Any) -> Any:
        return pytree.tree_map(
            lambda v: (
                {0: auto} if isinstance(v, torch.Tensor) and v.dim() and len(v) == size else None
            ),
            value,
        )

    return tuple(map(of, args)), {key: of(value) for key, value in kwargs.items()}


def _program(model: nn.Module, example: ExampleInput, dynamic: bool) -> Any:
    args, kwargs = call_arguments(example)
    shapes: Any = None
    if dynamic:
        positional, keyword = _dynamic_shapes(example)
        shapes = keyword if kwargs else positional
    return torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)


def _write_pt2(model: nn.Module, path: Path, example: ExampleInput) -> str:
    def attempt(dynamic: bool) -> str:
        file = path.with_name(path.name + ".pt2")  # torch insists on the suffix
        try:
            torch.export.save(_program(model, example, dynamic), file)
            loaded = torch.export.load(file).module()
            compare(model, lambda x: call(loaded, x), example)
            note = batch_note(model, lambda x: call(loaded, x), example)
            os.replace(file, path)
        finally:
            _remove(file)
        return f"torch.export, {note}"

    return attempts_in_turn(
        "torch.export",
        {"any batch size": partial(attempt, True), "fixed batch size": partial(attempt, False)},
    )


def _write_onnx(model: nn.Module, path: Path, example: ExampleInput) -> str:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"ONNX wants the package {error.name}. Install it: pip install 'refiner[onnx]'."
        ) from error
    args, kwargs = call_arguments(example)

    def attempt(way: str) -> str:
        if way == "fixed batch size":
            torch.onnx.export(model, args, path, kwargs=kwargs, dynamo=True, external_data=False)
        elif way == "torch.export":
            program = _program(model, example, dynamic=True)
            torch.onnx.export(program, (), path, dynamo=True, external_data=False)
        else:
            names = [f"input_{i}" for i in range(len(tensors_in(example)))]
            torch.onnx.export(
                model, (*args, kwargs) if kwargs else args, path, dynamo=False,
                input_names=names, dynamic_axes={name: {0: "batch"} for name in names},
            )  # fmt: skip
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_inputs()]

        def run(given: Any) -> list[torch.Tensor]:
            arrays = [tensor.numpy() for tensor in tensors_in(given)]
            return [
                torch.from_numpy(a)
                for a in session.run(None, dict(zip(names, arrays, strict=True)))
            ]

        compare(model, run, example, _ONNX_TOLERANCE)
        opset = max(o.version for o in onnx.load(str(path)).opset_import if o.domain == "")
        note = batch_note(model, run, example, _ONNX_TOLERANCE)
        return f"ONNX opset {opset}, made by {way}, {note}"

    ways = ("torch.export", "fixed batch size", "TorchScript")
    return attempts_in_turn("ONNX", {way: partial(attempt, way) for way in ways})


_WRITERS: dict[str, Callable[[nn.Module, Path, Any], str]] = {
    "torchscript": _write_torchscript,
    "python": _write_python,
    "onnx": _write_onnx,
    "pt2": _write_pt2,
}
FORMATS = tuple(_WRITERS)
