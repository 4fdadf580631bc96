"""Data for detection as ultralytics describes it: a YAML file with folders of images and labels."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from refiner.core.errors import DataError, one_line
from refiner.core.randomness import derive_seed
from refiner.core.ultralytics_models import quiet, require_ultralytics
from refiner.data.loaders import Data

_COLOURS = re.compile(r"(\x1b|\\x1b)\[[0-9;]*m")
SIZE = 640
"""Pixels of an image's longer side where nothing else is said, as in ultralytics."""


def yolo_data(
    file: str, *, batch_size: int, image_size: int | None, limit: int | None, seed: int
) -> Data:
    """Return the data sets that a YAML file of ultralytics names.

    Training images are augmented by ultralytics with its defaults, without mosaics, as in the last
    epochs of its training. ultralytics writes the labels that it read into a file beside them that
    ends in ``.cache``; such a file is never read here.

    Args:
        file: path of the YAML file. Nothing is downloaded.
        batch_size: images of a training batch, and of others.
        image_size: pixels of an image's longer side.
        limit: use this many training images at most.
        seed: fixes the choice of ``limit``.

    Raises:
        DataError: the file or its images are missing or wrong.
    """
    require_ultralytics()
    if not Path(file).is_file():
        raise DataError(f"{file} does not exist. Give the path of a data set's YAML file.")
    from ultralytics.data.utils import check_det_dataset

    try:
        with quiet(), _without_caches():
            described = check_det_dataset(file, autodownload=False)
            parts = {
                part: _dataset(described, part, batch_size, image_size or SIZE)
                for part in ("train", "val", "test")
                if described.get(part)
            }
    except (Exception, SystemExit) as error:
        said = _COLOURS.sub("", one_line(error, 300))
        raise DataError(f"{file} cannot be read: {said}") from error
    for part, each in parts.items():
        if not any(len(label["cls"]) for label in each.labels):
            raise DataError(f"{file}: no image of {part} has a box. Name the folder of its labels.")
    if limit is not None and limit < len(parts["train"]):
        generator = torch.Generator().manual_seed(derive_seed(seed, "limit"))
        order = torch.randperm(len(parts["train"]), generator=generator)
        parts["train"] = Subset(parts["train"], order[:limit].tolist())
    loaders = {
        part: DataLoader(each, batch_size, shuffle=part == "train", collate_fn=collate)
        for part, each in parts.items()
    }
    names = tuple(str(described["names"][i]) for i in range(described["nc"]))
    return Data(
        train=loaders["train"],
        val=loaders["val"],
        test=loaders.get("test"),
        name=file,
        classes=names,
    )


@contextmanager
def _without_caches() -> Iterator[None]:
    """Read labels themselves, since a cache of them is a pickle, and fetch no font."""
    from ultralytics.data import dataset, utils

    def missing(path: Path) -> None:
        raise FileNotFoundError(path)

    kept = dataset.load_dataset_cache_file, utils.check_font
    dataset.load_dataset_cache_file, utils.check_font = missing, lambda *_: None
    try:
        yield
    finally:
        dataset.load_dataset_cache_file, utils.check_font = kept


def _dataset(described: dict[str, Any], part: str, batch_size: int, size: int) -> Any:
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset

    options = {"task": "detect", "imgsz": size, "mosaic": 0.0, "cache": False, "verbose": False}
    mode = "train" if part == "train" else "val"
    return build_yolo_dataset(
        get_cfg(overrides=options), described[part], batch_size, described, mode=mode
    )


def collate(samples: list[dict[str, Any]]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return a batch of samples: images from 0 to 1, and their boxes with the images' numbers."""
    images = torch.stack([sample["img"] for sample in samples]).float() / 255
    number = [torch.full((len(sample["cls"]),), float(i)) for i, sample in enumerate(samples)]
    truth = {
        "cls": torch.cat([sample["cls"].view(-1, 1).float() for sample in samples]),
        "bboxes": torch.cat([sample["bboxes"].view(-1, 4).float() for sample in samples]),
        "batch_idx": torch.cat(number),
    }
    return images, truth
