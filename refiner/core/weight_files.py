"""Read a file of weights, and say what another file is instead."""

import json
import os
import pickle
import stat
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from refiner.core.errors import ModelError, one_line

_HEAD = 512
"""Bytes at the start of a file that show its kind."""
_STATE = "Save weights with torch.save(model.state_dict(), FILE), and name that file."
_MODEL_CLASSES = ("torch.nn.", "torch.fx.", "__torch__")
"""Beginnings of the names of classes that a pickled model holds."""


def read_weights(path: Path, *, trust: bool = False) -> Any:
    """Return what a file of weights holds: nested dicts of tensors, or with ``trust`` any object.

    The content decides how it is read, not the file's name. Nothing that a file holds is run.

    Args:
        path: a safetensors file, or one that ``torch.save`` wrote.
        trust: whether to unpickle objects too, which can run code of whoever made the file.

    Raises:
        ModelError: there is no such file, or it holds something else.
    """
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a folder. Name a .safetensors or .pt file of weights.")
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path} is not a regular file. Name a file of weights.")
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"there is no file {path}. Name a .safetensors or .pt file of weights."
        ) from None
    except (OSError, ValueError) as error:  # a name that no file can have
        raise ModelError(f"{str(path)!r} cannot be read: {one_line(error, 150)}") from error
    kind = _other_kind(path, head)
    if kind is not None:
        raise ModelError(f"{path} {kind}")
    if _is_safetensors(path, head):
        return _loaded(path, _safetensors)
    return _loaded(path, partial(_torch, weights_only=not trust))


def _safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _torch(path: Path, *, weights_only: bool) -> Any:
    with path.open("rb") as file, warnings.catch_warnings():  # by content, whatever the name
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=weights_only)


def _loaded(path: Path, load: Callable[[Path], Any]) -> Any:
    try:
        return load(path)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} {_pickled(path)}") from error
    except MemoryError as error:
        raise ModelError(f"{path} does not fit into memory.") from error
    except Exception as error:  # a damaged file makes torch's readers raise anything
        raise ModelError(
            f"{path} is damaged, or no file of weights: {one_line(error, 150)}. {_STATE}"
        ) from error


def _is_safetensors(path: Path, head: bytes) -> bool:
    """Return whether a file begins as safetensors do: with the length of a JSON object."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 0 < length <= path.stat().st_size


def _other_kind(path: Path, head: bytes) -> str | None:
    """Return what a file holds that is not a file of weights, with the next step; else None."""
    if not head:
        return "is empty. Copy or download it again."
    start = head.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return (
            "is a pointer of Git LFS, not the file itself. Run `git lfs pull` where it lies, or "
            "download it."
        )
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a web page. Download the file itself: a link may lead to a page about it."
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return f"is {name}. {_STATE}"
    if head[4:8] == b"TFL3":
        return f"is a model of TensorFlow Lite. {_STATE}"
    onnx = head[:1] == b"\x08" and any(word in head for word in (b"pytorch", b"onnx", b"ai."))
    if onnx or path.suffix == ".onnx":
        return f"is an ONNX model, which is not a file of weights. {_STATE}"
    if head.startswith(b"PK"):
        return _zip_kind(path)
    return _text_kind(path, head)


_MAGIC = {
    b"\x89HDF\r\n": "an HDF5 file, as Keras writes",
    b"\x93NUMPY": "an array of NumPy",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"BZh": "compressed by bzip2: unpack it first",
    b"\xfd7zXZ": "compressed by xz: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a program",
}
"""First bytes of files that people name by mistake."""


def _zip_kind(path: Path) -> str | None:
    """Return what a zip archive holds other than what ``torch.save`` writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:
        return "is cut off or damaged. Copy or download it again."
    parts = [name.split("/", 1)[-1] for name in names]
    if any(part.startswith("code/") or part == "constants.pkl" for part in parts):
        return (
            "is a TorchScript archive. It holds code and is never loaded. Save its weights: "
            "torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)."
        )
    if "data.pkl" in parts:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return f"holds arrays of NumPy (.npz). {_STATE}"
    if any(part.startswith(("models/", "serialized_")) for part in parts):
        return f"is a program of torch.export (.pt2), which is not a file of weights. {_STATE}"
    if any(part.endswith((".h5", "model.weights.h5")) for part in parts):
        return f"is a model of Keras. {_STATE}"
    listed = ", ".join(names[:3])
    return f"is a zip archive of other files ({listed}). Unpack it, and name the file of weights."


def _text_kind(path: Path, head: bytes) -> str | None:
    """Return what a text file is; None for binary files."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return None
        text = head[: error.start].decode("utf-8")
    if any(ord(c) < 32 and c not in "\t\n\r\f" for c in text):
        return None
    if "weight_map" in text or path.name.endswith(".index.json"):
        return "lists the parts of weights that lie in several files. Join them into one file."
    if text.lstrip().startswith(("{", "[")) and _is_json(path):
        return f"is a JSON file. {_STATE}"
    first = " ".join(text.split())[:40]
    return f"is a text file that begins {first!r}. Name a .safetensors or .pt file of weights."


def _is_json(path: Path) -> bool:
    if path.stat().st_size > 1 << 20:
        return True
    try:
        json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        return False
    return True


def _pickled(path: Path) -> str:
    """Return what a pickle holds that is not a tensor; nothing of it is run."""
    try:
        classes = torch.serialization.get_unsafe_globals_in_checkpoint(os.fspath(path))
    except Exception:
        classes = []
    model = [name for name in classes if _names_model(name)]
    if model or any(name.startswith(_MODEL_CLASSES) for name in classes):
        shown = model[0] if model else classes[0]
        return (
            f"holds a whole pickled model ({shown}), not its weights alone. Save them with "
            "torch.save(model.state_dict(), FILE). If you trust the file, --trust-weights reads it."
        )
    if classes:
        listed = ", ".join(classes[:3])
        return (
            f"holds more than weights: objects of {listed}. Reading them can run code. Save the "
            "state dict alone. If you trust the file, --trust-weights (trust=True) reads it."
        )
    return f"is damaged, or not a file of weights. {_STATE}"


def _names_model(name: str) -> bool:
    """Return whether a class is by its name the user's own network."""
    package, _, own = name.rpartition(".")
    known = ("argparse", "collections", "numpy", "pathlib", "torch", "builtins", "datetime")
    return (
        package.split(".")[0] not in known
        and own[:1].isupper()
        and any(word in own.lower() for word in ("net", "model", "former", "yolo", "vgg", "vit"))
    )
