"""Write files in one piece: beside their place, then renamed into it."""

import os
from pathlib import Path


def put_in_place(partial: Path, file: Path) -> None:
    """Rename a written file to its name, once its bytes are on the disk."""
    with partial.open("rb+") as written:
        os.fsync(written.fileno())
    os.replace(partial, file)


def write_text(file: Path, text: str) -> None:
    """Write a text file in one piece."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    put_in_place(partial, file)
