"""Texts of the command line that name files, folders and values."""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refiner.core.errors import ConfigError
from refiner.core.lightning_modules import SOURCE as LIGHTNING
from refiner.core.ultralytics_models import is_yaml
from refiner.data.coco_data import SOURCE as COCO
from refiner.faces.pairs import file_and_folder


def absolute(source: str) -> str:
    """Return a source that names a file or a folder, such as ``FILE.py:FUNCTION``, with an absolute
    path."""
    head, colon, tail = source.rpartition(":")
    if head.endswith(".py"):
        form = LIGHTNING if head.startswith(LIGHTNING) else ""
        return f"{form}{Path(head.removeprefix(form)).resolve()}{colon}{tail}"
    for form in ("folder:", "faces:", COCO):
        if source.startswith(form):
            return f"{form}{Path(source.removeprefix(form)).resolve()}"
    if source.startswith("hf:") and Path(source[3:]).is_dir():
        return f"hf:{Path(source[3:]).resolve()}"
    form, colon, file = source.rpartition(":")
    named = is_yaml(file) or file.endswith(".pt")
    if source.endswith(".py") or (named and Path(file).is_file()):
        return f"{form}{colon}{Path(file).resolve()}"
    return source


def absolute_pairs(source: str) -> str:
    """Return ``FILE`` or ``FILE:FOLDER`` of pairs with absolute paths."""
    return ":".join(str(path.resolve()) for path in file_and_folder(source) if path is not None)


def weights_file(source: str) -> str:
    """Return the absolute path of a weight file; of a run's folder, that of its refined model."""
    path = Path(source).resolve()
    return str(path / "refined.safetensors" if path.is_dir() else path)


def free_folder(name: str) -> Path:
    """Return the first of runs/NAME, runs/NAME-2, ... that does not exist."""
    base, number = Path("runs") / name, 1
    while (path := base if number == 1 else base.with_name(f"{base.name}-{number}")).exists():
        number += 1
    return path


def check_new_file(path: Path) -> None:
    """Raise a ConfigError unless a new file can be made at ``path``."""
    if path.exists():
        raise ConfigError(f"{path} exists already. Name another file.")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}. Make it, or name another file.")


def name_list(text: str, option: str) -> tuple[str, ...]:
    """Return the names in ``a,b,c``, the value of an option such as ``--candidates``.

    Raises:
        ConfigError: there is none.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigError(f"{option} is empty. Name one or more, with commas between them.")
    return names


def candidate_list(text: str | None) -> tuple[str, ...] | None:
    """Return the names in ``--candidates``, or None for the default."""
    return None if text is None else name_list(text, "--candidates")


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
