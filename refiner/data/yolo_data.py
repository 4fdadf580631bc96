"""Data for detection as ultralytics describes it: a YAML file with folders of images and labels."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.data import DataLoader, Subset

from refiner.core.errors import DataError, one_line
from refiner.core.randomness import derive_seed
from refiner.core.ultralytics_models import quiet, require_ultralytics
from refiner.data.loaders import Data

_COLOURS = re.compile(r"(\x1b|\\x1b)\[[0-9;]*m")
_NAMED = 3
"""Images that a note names."""
SIZE = 640
"""Pixels of an image's longer side where nothing else is said, as in ultralytics."""


def yolo_data(
    file: str,
    *,
    batch_size: int,
    image_size: int | None,
    limit: int | None,
    seed: int,
    masks: bool = False,
) -> Data:
    """Return the data sets that a YAML file of ultralytics names.

    Training images are augmented by ultralytics with its defaults, without mosaics, as in the last
    epochs of its training. ultralytics writes the labels that it read into a file beside them that
    ends in ``.cache``; such a file is never read here. Images are not repaired.

    Args:
        file: path of the YAML file. Nothing is downloaded. A relative ``path:`` in it begins at the
            working directory, or else at the file's own folder.
        batch_size: images of a training batch, and of others.
        image_size: pixels of an image's longer side.
        limit: use this many training images at most.
        seed: fixes the choice of ``limit``.
        masks: whether batches have the masks of objects, from outlines in the label files.

    Raises:
        DataError: the file or its images are missing or wrong.
    """
    require_ultralytics()
    if not Path(file).is_file():
        raise DataError(f"{file} does not exist. Give the path of a data set's YAML file.")
    from ultralytics.data.utils import check_det_dataset

    try:
        with quiet(), _reading_alone(), _placed(Path(file)) as placed:
            described = check_det_dataset(placed, autodownload=False)
            parts = {
                part: _dataset(described, part, batch_size, image_size or SIZE, masks)
                for part in ("train", "val", "test")
                if described.get(part)
            }
    except (Exception, SystemExit) as error:
        said = _COLOURS.sub("", one_line(error, 300))
        raise DataError(f"{file} cannot be read: {said}") from error
    note = "\n".join(filter(None, (_left_out(described, *item) for item in parts.items())))
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
        note=note,
    )


@contextmanager
def _reading_alone() -> Iterator[None]:
    """Read labels themselves, since a cache of them is a pickle; fetch no font, repair no image."""
    from ultralytics.data import dataset, utils

    def missing(path: Path) -> None:
        raise FileNotFoundError(path)

    instead: list[tuple[Any, str, Any]] = [
        (dataset, "load_dataset_cache_file", missing),
        (utils, "check_font", lambda *_: None),
        (utils, "_replace_image", lambda *_: None),
    ]
    kept = [(module, name, getattr(module, name)) for module, name, _ in instead]
    for module, name, function in instead:
        setattr(module, name, function)
    try:
        yield
    finally:
        for module, name, function in kept:
            setattr(module, name, function)


@contextmanager
def _placed(file: Path) -> Iterator[str]:
    """Give a YAML file whose ``path`` is found, though it may be relative to the file's folder."""
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    given = document.get("path") if isinstance(document, dict) else None
    own = file.resolve().parent / str(given)
    if given is None or Path(str(given)).exists() or not own.exists():
        yield str(file)
        return
    with tempfile.TemporaryDirectory() as folder:
        placed = Path(folder) / file.name
        placed.write_text(yaml.safe_dump({**document, "path": str(own)}), encoding="utf-8")
        yield str(placed)


def _left_out(described: dict[str, Any], part: str, dataset: Any) -> str:
    """Return a note on the images of a part that ultralytics leaves out."""
    kept = set(dataset.im_files)
    lost = [Path(f).name for f in dataset.get_img_files(described[part]) if f not in kept]
    if not lost:
        return ""
    named = ", ".join(lost[:_NAMED]) + (", ..." if len(lost) > _NAMED else "")
    return (
        f"ultralytics leaves out {len(lost)} of the images of {part}, since they or their labels "
        f"cannot be read: {named}."
    )


def _dataset(described: dict[str, Any], part: str, batch_size: int, size: int, masks: bool) -> Any:
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset

    task = "segment" if masks else "detect"
    options = {"task": task, "imgsz": size, "mosaic": 0.0, "cache": False, "verbose": False}
    mode = "train" if part == "train" else "val"
    return build_yolo_dataset(
        get_cfg(overrides=options), described[part], batch_size, described, mode=mode
    )


def collate(samples: list[dict[str, Any]]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return a batch of samples: images from 0 to 1, and their boxes with the images' numbers.

    Masks are there if the samples have them: for each pixel the number of the object in its image,
    from 1 on (``masks``, N x H x W), and the class (``sem_masks``).
    """
    images = torch.stack([sample["img"] for sample in samples]).float() / 255
    number = [torch.full((len(sample["cls"]),), float(i)) for i, sample in enumerate(samples)]
    truth = {
        "cls": torch.cat([sample["cls"].view(-1, 1).float() for sample in samples]),
        "bboxes": torch.cat([sample["bboxes"].view(-1, 4).float() for sample in samples]),
        "batch_idx": torch.cat(number),
    }
    if "masks" in samples[0]:
        truth["masks"] = torch.cat([sample["masks"] for sample in samples])
        truth["sem_masks"] = torch.stack([sample["sem_masks"] for sample in samples])
    return images, truth
