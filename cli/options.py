"""Options that several commands take, from text to values."""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from refiner.data import load_data
from refiner.errors import ConfigError, one_line
from refiner.loaders import example_of
from refiner.models import default_input_size, input_channels


def absolute(source: str) -> str:
    """Return ``FILE.py:FUNCTION`` or ``folder:PATH`` with the path absolute, anything else as it is."""
    head, colon, tail = source.rpartition(":")
    if head.endswith(".py"):
        return f"{Path(head).resolve()}{colon}{tail}"
    if source.startswith("folder:"):
        return f"folder:{Path(source.removeprefix('folder:')).resolve()}"
    return source


def check_new_file(path: Path) -> None:
    """Raise a ConfigError unless a file can be made at ``path`` that is not there yet."""
    if path.exists():
        raise ConfigError(f"{path} is there already. Name another file.")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}. Make it, or name another file.")


def candidate_list(text: str | None) -> tuple[str, ...] | None:
    """Return the names in ``a,b,c``, or None for the default."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigError(
            "--candidates is empty. Name operations, such as depthwise3x3,maxpool3x3."
        )
    return names


def model_arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` texts as a dict; a value is a Python literal, else text."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"--model-arg {pair!r} is not KEY=VALUE, such as drop_rate=0.1.")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return arguments


def example_input(model: torch.nn.Module, size: str | None, data: str | None, seed: int = 0) -> Any:
    """Return two samples: of a data set, or random ones of the given or the model's own size."""
    if data is None:
        return random_input(model, size)
    if size is not None:
        raise ConfigError("--input-size and --data both tell the input's size. Give one.")
    return example_of(load_data(data, channels=input_channels(model), seed=seed).train)


def random_input(model: torch.nn.Module, size: str | None) -> torch.Tensor:
    """Return two random samples of the given size, ``C,H,W`` say, or of the model's own input size."""
    shape: tuple[int, ...]
    if size is None:
        shape = default_input_size(model)
    else:
        try:
            shape = tuple(int(part) for part in size.split(","))
        except ValueError:
            raise ConfigError(f"--input-size {size!r} is not C,H,W, such as 3,224,224.") from None
        if min(shape) < 1:
            raise ConfigError(f"--input-size {size!r} has a size below 1. Write 3,224,224, say.")
    try:
        return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    except RuntimeError as error:
        raise ConfigError(f"--input-size {size!r} is too large: {one_line(error, 100)}") from error
