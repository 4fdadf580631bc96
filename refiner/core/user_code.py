"""Functions in files of the user's: the only code that runs is what the user pointed at."""

import ast
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import types
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

from refiner.core.errors import RunError, one_line

_OWN = re.compile(r"refiner\.recipes\.\w+:(run|build_model)")
"""The recipes that come with refiner."""
_PACKAGE = "_refiner_user_"
"""Beginning of the names of packages that stand for folders of the user's files."""
_allowed: ContextVar[tuple[str, frozenset[str]] | None] = ContextVar("_allowed", default=None)


@contextmanager
def only_named(
    folder: str | os.PathLike[str], named: Collection[str], *, trust: bool = False
) -> Iterator[None]:
    """Run no code inside that a folder names, unless its user named it again.

    Args:
        folder: which is being opened.
        named: sources that may run, as the command line named them.
        trust: lets all run.
    """
    token = _allowed.set(None if trust else (os.fspath(folder), frozenset(named)))
    try:
        yield
    finally:
        _allowed.reset(token)


def check_allowed(source: str) -> None:
    """Raise a RunError for code that only a folder names; see :func:`only_named`."""
    rule = _allowed.get()
    if rule is None or source in rule[1] or _OWN.fullmatch(source):
        return
    raise RunError(
        f"{rule[0]} asks to run {source}. A folder is data, so nothing was run. If you trust this, "
        "name it again on the command line, or add --trust."
    )


def functions_in(path: Path) -> str:
    """Return which public functions a file defines, for a message; its code is not run."""
    try:
        body = ast.parse(path.read_text("utf-8")).body
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return ""
    names = [n.name for n in body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
    return f" It has: {', '.join(names[:8])}." if names else ""


def load_function(
    source: str, error_type: type[Exception], *, form: str = ""
) -> Callable[..., Any]:
    """Return the function that ``FILE.py:FUNCTION`` or ``package.module:FUNCTION`` names.

    This runs the file's code, as its user asked. As for a script, the file's folder is put on
    ``sys.path``; relative imports (``from .blocks import Block``) find its neighbours too. Only
    what the file or the package itself defines is returned, so that no source names ``os:system``.
    A source may begin with ``form``, such as ``lightning:``.

    Raises:
        error_type: the file or the function is missing, importing it raises, or it is defined
            elsewhere.
        RunError: a folder names it, and its user did not; see :func:`only_named`.
    """
    head, _, name = source.removeprefix(form).rpartition(":")
    check_allowed(source)
    if not name.isidentifier() or name.startswith("__"):
        raise error_type(f"{name!r} of {source!r} is not the name of a function. Name one.")
    if not head.endswith(".py") and head.split(".")[0] in sys.stdlib_module_names:
        raise error_type(
            f"{source} belongs to Python itself. Name a function of your own file or package."
        )
    module = _imported(head, error_type)
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
    home = _home(function)
    if not _belongs(home, module):
        raise error_type(
            f"{name} is not defined in {head}, but in {home or 'Python itself'}. Name a function "
            f"that {head} defines itself."
        )
    return function  # type: ignore[no-any-return]


def _imported(head: str, error_type: type[Exception]) -> types.ModuleType:
    try:
        if head.endswith(".py"):
            path = Path(head)
            if not path.is_file():
                raise error_type(f"there is no file {head}. Name an existing FILE.py:FUNCTION.")
            return _import_file(path.resolve())
        if not all(part.isidentifier() for part in head.split(".")):
            raise error_type(f"{head!r} is neither FILE.py nor a package. Name one of them.")
        if "" not in sys.path and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # as `python -m` does
        return importlib.import_module(head)
    except error_type:
        raise
    except ModuleNotFoundError as error:
        raise error_type(f"{head} cannot be imported: {one_line(error)}") from error
    except Exception as error:
        raise error_type(f"{head} fails when it is imported: {one_line(error)}") from error
    except SystemExit as error:
        raise error_type(
            f"{head} ends the program when it is imported. Guard that by `if __name__ == "
            "'__main__':`."
        ) from error


def _home(function: Callable[..., Any]) -> str:
    """Return the module that defines a callable; of a partial that of what it calls."""
    while isinstance(function, partial):
        function = function.func
    found = getattr(function, "__module__", None)
    return found if isinstance(found, str) else ""


def _belongs(home: str, module: types.ModuleType) -> bool:
    """Return whether a module's name is that of ``module``, of its package or of a neighbour."""
    if home == module.__name__ or home.split(".")[0] == module.__name__.split(".")[0]:
        return bool(home)
    file = getattr(sys.modules.get(home), "__file__", None)
    own = getattr(module, "__file__", None)
    if not file or not own or not (module.__package__ or "").startswith(_PACKAGE):
        return False
    installed = home.split(".")[0] in sys.stdlib_module_names or "site-packages" in file
    return not installed and Path(own).parent in Path(file).parents


def _import_file(path: Path) -> types.ModuleType:
    folder = str(path.parent)
    package = f"{_PACKAGE}{hashlib.sha256(folder.encode()).hexdigest()[:12]}"
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
