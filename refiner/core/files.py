"""Write files in one piece: beside their place, then renamed into it. Read JSON from anyone."""

import json
import os
import stat
from pathlib import Path
from typing import Any

_MOST_BYTES = 256 << 20
_DEEPEST = 60
_LARGEST = 1 << 63


def put_in_place(partial: Path, file: Path) -> None:
    """Rename a written file to its name, once its bytes are on the disk."""
    with partial.open("rb+") as written:
        os.fsync(written.fileno())
    os.replace(partial, file)


def new_partial(file: Path) -> Path:
    """Return the path beside a file at which its content is written first; nothing is there.

    What a broken-off run left is removed. So is a link, which could lead elsewhere.
    """
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)
    return partial


def write_text(file: Path, text: str) -> None:
    """Write a text file in one piece."""
    partial = new_partial(file)
    with partial.open("x", encoding="utf-8", errors="backslashreplace") as written:
        written.write(text)
    put_in_place(partial, file)


def read_text(path: Path) -> str:
    """Return a text file of moderate size.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular file, too large, or not UTF-8.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_size > _MOST_BYTES:
            raise ValueError(f"it has {status.st_size:,} bytes, more than {_MOST_BYTES:,}")
        return file.read(_MOST_BYTES).decode("utf-8")


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for a writer at the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_json(path: Path, *, finite: bool = True) -> Any:
    """Return the content of a JSON file that anyone may have written.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON, or holds what no file of refiner's does: deep nesting, numbers
            beyond 64 bits, texts that are not Unicode or, with ``finite``, NaN and infinities.
    """
    return parse_json(read_text(path), finite=finite)


def parse_json(text: str, *, finite: bool = True) -> Any:
    """Return a JSON text as :func:`read_json` does."""
    try:
        document = json.loads(text, parse_constant=_no_number if finite else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_content(document)
    return document


def _no_number(name: str) -> float:
    raise ValueError(f"it holds {name}")


def _check_content(document: Any) -> None:
    level = [document]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += [*value, *value.values()]
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str):
                value.encode("utf-8")
            elif type(value) is int and not -_LARGEST <= value < _LARGEST:
                raise ValueError("it holds a number beyond 64 bits")
        if not inner:
            return
        level = inner
    raise ValueError("it is nested too deeply")
