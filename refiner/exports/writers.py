"""What writes each export format, loads it again and compares it with its model."""

import importlib.util
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from refiner.core.batches import batch_size
from refiner.core.contents import tensors_in
from refiner.core.errors import ConfigError, ModelError
from refiner.core.inputs import ExampleInput, call, call_arguments
from refiner.core.preprocessing import Preprocessing
from refiner.exports.attempts import Attempt, Made, best_of
from refiner.exports.batch_sizes import batch_sizes, only
from refiner.exports.embedded import add_to_onnx, check_preprocess, extra_files, metadata
from refiner.exports.flattened import Flattened, output_names
from refiner.exports.lightning_checkpoint import written_and_loaded
from refiner.exports.onnx_names import name_dimensions
from refiner.exports.pretrained import from_pretrained, write_pretrained
from refiner.exports.programs import open_batch, open_dimensions, program
from refiner.exports.python_source import python_source
from refiner.exports.yolo_checkpoint import read_checkpoint, write_checkpoint

ONNX_TOLERANCE = 1e-3
"""onnxruntime fuses operations and sums in another order."""


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
    model: nn.Module,
    folder: Path,
    example: ExampleInput,
    prepared: Preprocessing | None,
    *,
    any_size: bool = False,
) -> Made:
    def attempt(dynamic: bool, sized: bool, path: Path) -> Made:
        recorded = program(model, example, dynamic=dynamic, any_size=sized)
        torch.export.save(recorded, path, extra_files=extra_files(prepared))
        loaded = torch.export.load(path).module()
        sizes = batch_sizes(model, lambda x: call(loaded, x), example)
        return Made(path=path, how="torch.export", sizes=sizes)

    ways = {"any input size": partial(attempt, True, True)} if any_size else {}
    ways |= {
        "any batch size": partial(attempt, True, False),
        "fixed batch size": partial(attempt, False, False),
    }
    # torch insists on the suffix
    return best_of("torch.export", ways, folder, ".pt2", any_size=any_size)


def _write_onnx(
    model: nn.Module,
    folder: Path,
    example: ExampleInput,
    prepared: Preprocessing | None,
    *,
    any_size: bool = False,
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
            recorded = program(model, example, dynamic=True, any_size=any_size)
            torch.onnx.export(recorded, (), path, dynamo=True, external_data=False)
            name_dimensions(path)
        elif way == "fixed batch size":
            args, kwargs = call_arguments(example)
            torch.onnx.export(model, args, path, kwargs=kwargs, dynamo=True, external_data=False)
        else:
            args, kwargs = call_arguments(open_batch(example))
            tensors = {f"input_{i}": tensor for i, tensor in enumerate(tensors_in(example))}
            axes = {
                name: {
                    d: f"{name}_{d}" if d else "batch"
                    for d in {0, *open_dimensions(tensor, len(tensor), any_size=any_size)}
                }
                for name, tensor in tensors.items()
            }
            torch.onnx.export(
                model, (*args, kwargs) if kwargs else args, path, dynamo=False,
                input_names=list(tensors), dynamic_axes=axes,
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

        sizes = batch_sizes(model, run, example, ONNX_TOLERANCE)
        opset = max(o.version for o in onnx.load(str(path)).opset_import if o.domain == "")
        return Made(path=path, how=f"ONNX opset {opset}, made by {way}", sizes=sizes)

    ways = ("torch.export", "TorchScript", "fixed batch size")
    attempts = {way: partial(attempt, way) for way in ways}
    return best_of("ONNX", attempts, folder, any_size=any_size)


def _write_ultralytics(
    model: nn.Module, folder: Path, example: ExampleInput, _prepared: Preprocessing | None
) -> Made:
    def attempt(path: Path) -> Made:
        alone = write_checkpoint(model, path)
        loaded = read_checkpoint(path)
        sizes = batch_sizes(model, lambda x: call(loaded, x), example)
        where = "" if alone else " and refiner"
        return Made(path=path, how=f"checkpoint that needs ultralytics{where}", sizes=sizes)

    return best_of("ultralytics", {"pickle": attempt}, folder, ".pt")


def _write_transformers(
    model: nn.Module, folder: Path, example: ExampleInput, prepared: Preprocessing | None
) -> Made:
    def attempt(path: Path) -> Made:
        write_pretrained(model, path, prepared)
        loaded = from_pretrained(path)
        sizes = batch_sizes(model, lambda x: call(loaded, x), example)
        return Made(path=path, how="folder for refiner.from_pretrained", sizes=sizes)

    return best_of("transformers", {"save_pretrained": attempt}, folder)


def _write_lightning(
    model: nn.Module, folder: Path, example: ExampleInput, _prepared: Preprocessing | None
) -> Made:
    def attempt(path: Path) -> Made:
        loaded, how = written_and_loaded(model, path)
        sizes = batch_sizes(model, lambda x: call(loaded, x), example)
        return Made(path=path, how=how, sizes=sizes)

    return best_of("lightning", {"state dict": attempt}, folder, ".ckpt")


WRITERS: dict[str, Callable[..., Made]] = {
    "torchscript": _write_torchscript,
    "python": _write_python,
    "onnx": _write_onnx,
    "pt2": _write_pt2,
    "ultralytics": _write_ultralytics,
    "transformers": _write_transformers,
    "lightning": _write_lightning,
}
SIZED = {"onnx": _write_onnx, "pt2": _write_pt2}
"""Formats in which the size of inputs may stay open."""
FORMATS = tuple(WRITERS)
GENERAL = tuple(
    name for name in FORMATS if name not in ("ultralytics", "transformers", "lightning")
)
"""Formats for models of any library."""
