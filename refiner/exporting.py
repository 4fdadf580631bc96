"""Export a model to a file that lives without refiner; believed once it has been loaded again."""

import os
import warnings
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from refiner.errors import ConfigError, ModelError, one_line
from refiner.inputs import call, call_arguments, tensors_in
from refiner.randomness import seeded
from refiner.surgery import copied

FORMATS = ("torchscript",)
_TOLERANCE = 1e-5


def export(
    model: nn.Module,
    path: str | PathLike[str],
    example_input: Any,
    format: str = "torchscript",  # noqa: A002
) -> str:
    """Write ``model`` in eval mode to ``path``, and return how: ``script`` or ``trace``.

    TorchScript is made by ``torch.jit.script``, which keeps control flow and takes any batch size,
    or where the model's code cannot be scripted by ``torch.jit.trace`` on the example input. The
    file is loaded again and its outputs compared with the model's.

    Raises:
        ConfigError: an unknown format.
        ModelError: neither works, or the loaded file gives other outputs.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown export format {format!r}. Choose one of: {', '.join(FORMATS)}.")
    work = copied(model).cpu().eval()
    example = _on_cpu(example_input)
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    errors = []
    try:
        for way in ("script", "trace"):
            try:
                _save(work, partial, example, way)
                _compare(work, partial, example)
            except Exception as error:
                errors.append(f"{way}: {one_line(error, 150)}")
                continue
            os.replace(partial, path)
            return way
    finally:
        partial.unlink(missing_ok=True)
    raise ModelError(f"TorchScript cannot hold this model: {'; '.join(errors)}")


def _on_cpu(example: Any) -> Any:
    return torch.utils._pytree.tree_map(lambda v: v.cpu() if hasattr(v, "cpu") else v, example)


def _save(model: nn.Module, path: Path, example: Any, way: str) -> None:
    args, kwargs = call_arguments(example)
    with torch.no_grad(), seeded(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if way == "script":
            scripted = torch.jit.script(model)
        elif kwargs:
            scripted = torch.jit.trace(model, example_kwarg_inputs=kwargs)
        else:
            scripted = torch.jit.trace(model, args)
        torch.jit.save(scripted, str(path))


def _compare(model: nn.Module, path: Path, example: Any) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = torch.jit.load(str(path))
        with seeded(0):
            expected = tensors_in(call(model, example))
        with seeded(0):
            got = tensors_in(call(loaded, example))
    for a, b in zip(expected, got, strict=True):
        torch.testing.assert_close(a, b, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
