"""Classification data sets of torchvision by their names."""

import ast
import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refiner.core.errors import DataError, one_line
from refiner.data.parts import ImageSet, Part
from refiner.data.split import LABEL_ATTRIBUTES, Indices

_SPLITS = {
    "train": ("train", "trainval", "train-standard"),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
"""Values of a data set's ``split`` for each part, the first that it has."""
_DIGITS = "MNIST EMNIST KMNIST QMNIST USPS SVHN GTSRB RenderedSST2".split()
"""Data sets whose classes differ from their mirror images."""


def torchvision_images(name: str, root: Path) -> ImageSet:
    """Return the images of ``NAME`` or ``NAME:KEY=VALUE,...``, with arguments of its class.

    Raises:
        DataError: there is no such data set, its files are missing, or it has no class labels.
    """
    name, _, text = name.partition(":")
    kind, arguments = _kind(name), _arguments(name, text)
    made = _parts_of(kind, name, root, arguments)
    labels = {part: _labels(data, name) for part, data in made.items()}
    classes = _classes(made["train"], labels)
    parts = {
        part: Part(
            items=range(len(data)),
            labels=labels[part],
            open=partial(opened, data),
            prefix=f"torchvision:{name}, {part} image ",
        )
        for part, data in made.items()
    }
    return ImageSet(
        name=f"torchvision:{name}",
        classes=classes,
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        flip=name not in _DIGITS,
    )


def opened(data: Any, index: int) -> Image.Image:
    """Return the image of a sample, as Pillow holds it.

    Raises:
        ValueError: it is not an image.
    """
    pixels = getattr(data, "data", None)
    if isinstance(pixels, np.ndarray) and pixels.ndim == 4 and pixels.shape[-1] == 3:
        return Image.fromarray(pixels[index])  # what CIFAR's own reader does
    image = data[index][0]
    if not isinstance(image, Image.Image):
        raise DataError(f"a sample is a {type(image).__name__} and no image. Use FILE.py:FUNCTION.")
    return image


def _kind(name: str) -> Any:
    import torchvision

    found = getattr(torchvision.datasets, name, None) if name.isidentifier() else None
    names = torchvision.datasets.__all__
    if name not in names or not inspect.isclass(found):
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(near)}?" if near else "Its documentation lists them."
        raise DataError(f"torchvision has no data set {name!r}. {hint}")
    return found


def _arguments(name: str, text: str) -> dict[str, Any]:
    """Return ``key=value,key=value`` as a dict; a value is a Python literal, else text."""
    arguments: dict[str, Any] = {}
    for pair in re.split(r",(?=\w+=)", text) if text else ():
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise DataError(f"torchvision:{name}:{text} is not NAME:KEY=VALUE,KEY=VALUE.")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return arguments


def _parts_of(
    kind: Callable[..., Any], name: str, root: Path, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the data set of each part that torchvision has."""
    takes = inspect.signature(kind).parameters
    if "train" in takes and "train" not in arguments:
        flags = {"train": True, "test": False}
        return {
            part: made(kind, name, root, {**arguments, "train": flag})
            for part, flag in flags.items()
        }
    if "split" not in takes or "split" in arguments:
        return {"train": made(kind, name, root, arguments)}
    parts = {}
    for part, values in _SPLITS.items():
        for value in values:
            try:
                parts[part] = made(kind, name, root, {**arguments, "split": value})
            except ValueError:  # it has no such split
                continue
            break
    if "train" not in parts:
        raise DataError(
            f"torchvision:{name} has no split to train on. Name one: torchvision:{name}:split=NAME."
        )
    return parts


def made(kind: Callable[..., Any], name: str, root: Path, arguments: Mapping[str, Any]) -> Any:
    """Return a data set that is in ``root``, or that torchvision downloads.

    Raises:
        ValueError: it has no such split.
        DataError: its files are missing, or an argument is wrong.
    """
    takes, there = inspect.signature(kind).parameters, root.exists()
    arguments = {**({"root": str(root)} if "root" in takes else {}), **arguments}
    tries: Sequence[dict[str, Any]] = [{}]
    if "download" in takes:
        tries = [{"download": False}, {"download": True}]
    failed: Exception | None = None
    for way in tries:
        try:
            return kind(**arguments, **way)
        except ValueError as error:
            if "split" in arguments and "split" in str(error):
                raise
            failed = error
        except Exception as error:
            failed = error
    if not there and root.is_dir() and not any(root.iterdir()):
        root.rmdir()  # torchvision made it
    assert failed is not None
    archive = getattr(kind, "filename", None)
    what = f"the archive {archive}" if isinstance(archive, str) else "its files"
    advice = (
        "`torchvision:NAME:KEY=VALUE` gives it an argument"
        if isinstance(failed, TypeError)
        else f"Put {what} into {root}, or use folder:PATH"
    )
    raise DataError(
        f"{name} is not in {root} and cannot be downloaded ({one_line(failed, 100)}). {advice}."
    ) from failed


def _labels(data: Any, name: str) -> Indices:
    """Return the class of each sample, from a list where the data set has one."""
    for attribute in LABEL_ATTRIBUTES:
        with_labels = getattr(data, attribute, None)
        if with_labels is not None:
            labels = np.asarray(with_labels)
            break
    else:
        samples = getattr(data, "_samples", None) or getattr(data, "samples", None)
        pairs = samples if samples is not None else (data[i] for i in range(len(data)))
        labels = np.array([pair[1] for pair in pairs], dtype=object)
        if all(isinstance(label, int | np.integer) for label in labels):
            labels = labels.astype(np.int64)
    whole = labels.ndim == 1 and len(labels) == len(data) and len(data) > 0
    if not whole or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise DataError(
            f"torchvision:{name} gives no class label per image. Write FILE.py:FUNCTION, which "
            "returns loaders, and a task."
        )
    return labels.astype(np.int64)


def _classes(data: Any, labels: Mapping[str, Indices]) -> tuple[str, ...]:
    """Return the names of the classes; numbers where there are none."""
    count = 1 + max(int(part.max()) for part in labels.values())
    for attribute in ("classes", "categories"):
        names = getattr(data, attribute, None)
        if isinstance(names, list | tuple) and len(names) >= count:
            return tuple(map(str, names))
    return tuple(map(str, range(count)))
