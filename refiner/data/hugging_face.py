"""Data sets of Hugging Face's ``datasets``: by name, from its cache, or from a folder on disk."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refiner.core.errors import ConfigError, DataError, one_line
from refiner.data.class_folders import listed
from refiner.data.folder_parts import PART_NAMES
from refiner.data.parts import ImageSet, Part

_LABELS = ("label", "labels", "fine_label", "target", "class")
"""Columns that are taken for the labels, the first that there is."""


def hugging_face_images(source: str) -> ImageSet:
    """Return the images of ``NAME``, ``NAME:CONFIG`` or a folder that ``save_to_disk`` wrote.

    Raises:
        ConfigError: the package ``datasets`` is not installed.
        DataError: the data set cannot be loaded, or has no column of images or of labels.
    """
    splits = _loaded(source)
    parts = {}
    for part, names in PART_NAMES.items():
        found = [name for name in splits if name.lower() in names]
        if found:
            parts[part] = splits[found[0]]
    if "train" not in parts:
        if len(splits) != 1:
            raise DataError(f"hf:{source} has the splits {listed(list(splits))}, and no train.")
        parts = {"train": next(iter(splits.values()))}
    image, label = _columns(parts["train"], source)
    classes, numbers = _classes(parts["train"], label)
    notes, made = [], {}
    for name, data in parts.items():
        values = data[label]
        labels = np.array([numbers.get(value, -1) for value in values], dtype=np.int64)
        if (labels < 0).any():
            if name == "train":
                raise DataError(f"hf:{source} has training images without a label. Remove them.")
            notes.append(f"hf:{source}: {name} has images without a known label; it is not used.")
            continue
        made[name] = Part(
            items=range(len(data)),
            labels=labels,
            open=partial(_opened, data.select_columns([image]), image),
            prefix=f"hf:{source}, {name} image ",
        )
    return ImageSet(
        name=f"hf:{source}",
        classes=classes,
        train=made["train"],
        val=made.get("val"),
        test=made.get("test"),
        notes=tuple(notes),
        flip="mnist" not in source.lower() and "svhn" not in source.lower(),
    )


def _loaded(source: str) -> dict[str, Any]:
    """Return the splits of a data set by name."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"hf:{source} wants the package datasets. Install it: pip install datasets."
        ) from error
    try:
        if any((Path(source) / name).is_file() for name in ("dataset_dict.json", "state.json")):
            data = datasets.load_from_disk(source)
        elif Path(source).is_dir():
            data = datasets.load_dataset(source)
        else:
            name, _, config = source.partition(":")
            data = datasets.load_dataset(name, config or None)
    except Exception as error:
        raise DataError(
            f"hf:{source} cannot be loaded: {one_line(error, 200)}. Name a data set of the Hub or "
            "of its cache, or a folder that save_to_disk wrote."
        ) from error
    return dict(data) if isinstance(data, datasets.DatasetDict) else {"train": data}


def _columns(data: Any, source: str) -> tuple[str, str]:
    """Return the names of the columns of images and of labels."""
    kinds = {name: type(feature).__name__ for name, feature in data.features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    if not images:
        raise DataError(
            f"hf:{source} has no column of images, only {listed(list(kinds))}. Cast one with "
            "datasets.Image(), or write FILE.py:FUNCTION."
        )
    named = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    labels = [name for name in _LABELS if name in kinds] or named
    if not labels:
        raise DataError(
            f"hf:{source} has no column of labels among {listed(list(kinds))}. Name one `label`."
        )
    return images[0], labels[0]


def _classes(data: Any, label: str) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the names of the classes, and the number of each value of the column."""
    names = getattr(data.features[label], "names", None)
    if names:
        return tuple(names), {i: i for i in range(len(names))}
    values = sorted({value for value in data[label] if value is not None})
    return tuple(map(str, values)), {value: i for i, value in enumerate(values)}


def _opened(data: Any, column: str, index: int) -> Image.Image:
    image = data[index][column]
    if not isinstance(image, Image.Image):
        raise DataError(f"image {index} of the column {column!r} is missing. Remove its row.")
    return image
