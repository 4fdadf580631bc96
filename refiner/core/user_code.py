"""Functions in files of the user's: the only code that runs is what the user pointed at."""

import ast
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refiner.core.errors import one_line


def functions_in(path: Path) -> str:
    """Return which public functions a file defines, for a message; its code is not run."""
    try:
        body = ast.parse(path.read_text("utf-8")).body
    except (SyntaxError, ValueError, OSError):
        return ""
    names = [n.name for n in body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
    return f" It has: {', '.join(names[:8])}." if names else ""


def load_function(source: str, error_type: type[Exception]) -> Callable[..., Any]:
    """Return the function that ``FILE.py:FUNCTION`` or ``package.module:FUNCTION`` names.

    This runs the file's code, as its user asked. As for a script, the file's folder is put on
    ``sys.path``; relative imports (``from .blocks import Block``) find its neighbours too.

    Raises:
        error_type: the file or the function is missing, or importing it raises.
    """
    head, _, name = source.rpartition(":")
    try:
        if head.endswith(".py"):
            path = Path(head)
            if not path.is_file():
                raise error_type(f"there is no file {head}. Name an existing FILE.py:FUNCTION.")
            module = _import_file(path.resolve())
        else:
            if "" not in sys.path and os.getcwd() not in sys.path:
                sys.path.insert(0, os.getcwd())  # as `python -m` does
            module = importlib.import_module(head)
    except error_type:
        raise
    except ModuleNotFoundError as error:
        raise error_type(f"{head} cannot be imported: {one_line(error)}") from error
    except Exception as error:
        raise error_type(f"{head} fails when it is imported: {one_line(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        public = [
            n
            for n, v in vars(module).items()
            if inspect.isfunction(v) and n[0] != "_" and v.__module__ == module.__name__
        ]
        near = f" It has: {', '.join(public[:8])}." if public else ""
        close = difflib.get_close_matches(name, public, n=1)
        near = f" Did you mean {close[0]}?" if close else near
        raise error_type(f"{head} has no function {name!r}.{near}")
    return function  # type: ignore[no-any-return]


def _import_file(path: Path) -> Any:
    folder = str(path.parent)
    package = f"_refiner_user_{hashlib.sha256(folder.encode()).hexdigest()[:12]}"
    name = path.stem  # so that neighbours, and worker processes, import the same module
    if _is_taken(name, path):
        name = f"{package}.{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if package not in sys.modules:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [folder]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__package__ = package
    sys.modules[name] = module
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_taken(name: str, path: Path) -> bool:
    """Return whether importing ``name`` gives something else than the file at ``path``."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None) != str(path)
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # no name of a module at all
        return True
    return found is not None and found.origin != str(path)
