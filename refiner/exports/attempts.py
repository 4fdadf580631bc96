"""Try several ways to make an export, and keep the best that gives the model's outputs."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from refiner.core.errors import ModelError, one_line
from refiner.core.randomness import seeded
from refiner.exports.batch_sizes import BatchSizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An export that was written, loaded again and compared with its model."""

    path: Path
    """Its file or folder."""
    how: str
    """Its form, and how it was made."""
    sizes: BatchSizes
    """The sizes at which it equals the model."""

    def __str__(self) -> str:
        return f"{self.how}, {self.sizes}"


Attempt = Callable[[Path], Made]
"""Makes an export in a file or folder of that name, and raises where it is not the model."""


def best_of(
    format_name: str,
    ways: Mapping[str, Attempt],
    folder: Path,
    suffix: str = "",
    *,
    any_size: bool = False,
) -> Made:
    """Return the first attempt that holds at every batch size, else that with the most of them.

    Args:
        format_name: for messages.
        ways: attempts by name, the best first.
        folder: where they write.
        suffix: of the files' names.
        any_size: the first attempt has to take inputs of any size, too, if there is one.

    Raises:
        ModelError: no attempt gives the model's outputs on the example.
        OSError: nothing can be written.
    """
    made: list[Made] = []
    errors = []
    for i, (name, attempt) in enumerate(ways.items()):
        try:
            with seeded(0):
                made.append(attempt(folder / f"{i}{suffix}"))
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's trouble; torch raises OSError for want of a source file, too
            errors.append(f"{name}: {one_line(error, 150)}")
            continue
        if made[-1].sizes.complete and not (any_size and made[-1].sizes.fixed):
            return made[-1]
    if made:  # the first of equals
        return max(made, key=lambda e: (any_size and not e.sizes.fixed, len(e.sizes.held)))
    raise ModelError(
        f"{format_name} cannot hold this model: {'; '.join(dict.fromkeys(errors))}. Try another "
        "format; torchscript, where it is scripted, keeps what depends on the data."
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence exporters inside: they warn of their own future, and talk. Gradients are off."""
    with (
        torch.no_grad(),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        log = torch._C._jit_onnx_log
        torch._C._jit_onnx_log = lambda *_: None  # it prints the graph that an export fails on
        try:
            yield
        finally:
            torch._C._jit_onnx_log = log
