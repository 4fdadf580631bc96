"""Data for detection in COCO's format: for each part, images and one JSON file of their boxes.

Roboflow exports it so: folders ``train``, ``valid`` and ``test``, each with its images and a file
``_annotations.coco.json``. Labels are the category ids, unchanged, as in torchvision's references.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image

from refiner.core.errors import DataError, one_line
from refiner.core.randomness import derive_seed
from refiner.data.loaders import Data
from refiner.data.parts import LEAST_VALIDATION

SOURCE = "coco:"
"""Begins the name of such data."""
FILE = "_annotations.coco.json"
_MOST = 10_000
"""Largest category id."""
_PARTS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_Item = tuple[torch.Tensor, dict[str, torch.Tensor]]


def coco_data(folder: str, *, batch_size: int, limit: int | None, seed: int) -> Data:
    """Return the parts of a folder: ``train``, ``val`` or ``valid``, and ``test`` if it is there.

    Training images are flipped from left to right at random. Images keep their size.

    Args:
        folder: with the parts.
        batch_size: images of a batch.
        limit: use this many training images at most, and as many of other parts, or 1000 if that
            is more.
        seed: fixes the choice of ``limit``.

    Raises:
        DataError: a part, a file or an image is missing or wrong.
    """
    found = {part: _found(Path(folder), names) for part, names in _PARTS.items()}
    for part in ("train", "val"):
        if found[part] is None:
            raise DataError(
                f"{folder} holds no {' or '.join(_PARTS[part])} with {FILE}. Give each part a "
                "folder with its images and that file."
            )
    parts = {
        part: CocoImages(place, train=part == "train")
        for part, place in found.items()
        if place is not None
    }
    _check_equal_categories(parts)
    classes = _class_names({i: n for part in parts.values() for i, n in part.categories.items()})
    for part, each in parts.items():
        most = limit if limit is None or part == "train" else max(limit, LEAST_VALIDATION)
        each.limit(most, derive_seed(seed, "limit", part))
    loaders = {
        part: DataLoader(each, batch_size, shuffle=part == "train", collate_fn=collate)
        for part, each in parts.items()
    }
    return Data(
        train=loaders["train"],
        val=loaders["val"],
        test=loaders.get("test"),
        name=f"{SOURCE}{folder}",
        classes=classes,
    )


def collate(items: list[_Item]) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Return images and targets as two lists."""
    return [image for image, _ in items], [target for _, target in items]


class CocoImages(Dataset[_Item]):
    """Images 3 x H x W from 0 to 1, with boxes and labels.

    Args:
        folder: with images and :data:`FILE`.
        train: flip images at random, and leave boxes of crowds out. Other parts keep them, marked.
    """

    def __init__(self, folder: Path, *, train: bool) -> None:
        self.folder, self.train = folder, train
        document = _document(folder / FILE)
        try:
            self.categories = {int(c["id"]): str(c["name"]) for c in document["categories"]}
            self.files = {int(i["id"]): str(i["file_name"]) for i in document["images"]}
            self.sizes = {int(i["id"]): _size(i) for i in document["images"]}
            self.boxes: dict[int, list[list[float]]] = {image: [] for image in self.files}
            for each in document["annotations"]:
                self._add(each)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"{folder / FILE} is not valid COCO JSON: {one_line(error, 100)}. Export it again."
            ) from error
        missing = [name for name in self.files.values() if not (folder / name).is_file()]
        if missing:
            raise DataError(
                f"{folder} lacks {len(missing)} images of {FILE}, such as {missing[0]}."
            )
        if not any(self.boxes.values()):
            raise DataError(f"{folder / FILE} has no box. Give annotations of objects.")
        self.order = sorted(self.files)

    def _add(self, annotation: Mapping[str, Any]) -> None:
        x, y, width, height = map(float, annotation["bbox"])
        kind, crowd = int(annotation["category_id"]), int(annotation.get("iscrowd") or 0)
        if kind not in self.categories:
            raise ValueError(f"there is no category {kind}")
        image = int(annotation["image_id"])
        if image not in self.boxes:
            raise ValueError(f"there is no image {image}")
        if width > 0 and height > 0 and not (self.train and crowd):
            row = [x, y, x + width, y + height, kind, crowd]
            self.boxes[image].append(row)

    def limit(self, most: int | None, seed: int) -> None:
        """Keep at most this many images, chosen by the seed."""
        if most is not None and most < len(self.order):
            chosen = torch.randperm(
                len(self.order), generator=torch.Generator().manual_seed(seed)
            )[:most]  # fmt: skip
            self.order = sorted(self.order[i] for i in chosen.tolist())

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.order)

    def __getitem__(self, index: int) -> _Item:
        """Return an image and its target."""
        number = self.order[index]
        file = self.folder / self.files[number]
        try:
            image = _read(file, self.sizes[number])
        except RuntimeError as error:
            raise DataError(f"{file} cannot be read: {one_line(error, 100)}") from error
        rows = torch.tensor(self.boxes[number], dtype=torch.float32).view(-1, 6)
        height, width = image.shape[1:]
        boxes = rows[:, :4].clamp(min=0)
        boxes = torch.minimum(boxes, torch.tensor([width, height, width, height]).float())
        inside = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes, rows = boxes[inside], rows[inside]
        if self.train and float(torch.rand(())) < 0.5:
            image = image.flip(2)
            boxes = torch.stack(
                [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1
            )
        target = {"boxes": boxes, "labels": rows[:, 4].long(), "iscrowd": rows[:, 5].long()}
        return image.float() / torch.iinfo(image.dtype).max, target


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the height and width of an image where the document has them."""
    height, width = image.get("height"), image.get("width")
    return (int(height), int(width)) if height and width else None


def _read(file: Path, size: tuple[int, int] | None) -> torch.Tensor:
    """Return an image of the size that its boxes were drawn on, upright or as it is stored.

    Raises:
        DataError: it has another size either way.
    """
    image: torch.Tensor = decode_image(str(file), ImageReadMode.RGB, apply_exif_orientation=True)
    if size is None or image.shape[1:] == size:
        return image
    stored: torch.Tensor = decode_image(str(file), ImageReadMode.RGB)
    if stored.shape[1:] == size:
        return stored
    height, width = image.shape[1:]
    raise DataError(
        f"{file} has {width} x {height} pixels, and {FILE} says {size[1]} x {size[0]}, so boxes "
        "would be wrong. Export the data again."
    )


def _check_equal_categories(parts: Mapping[str, CocoImages]) -> None:
    """Raise a DataError where two parts give one category id two names."""
    known: dict[int, tuple[str, str]] = {}
    for part, each in parts.items():
        for number, name in each.categories.items():
            first, other = known.setdefault(number, (part, name))
            if other != name:
                raise DataError(
                    f"category {number} is {other!r} in {first} and {name!r} in {part}. Give it "
                    "one name in all parts."
                )


def _found(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name / FILE).is_file()), None)


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {one_line(error, 100)}") from error
    if not isinstance(document, dict):
        raise DataError(f"{file} holds no annotations in COCO's format.")
    return document


def _class_names(categories: dict[int, str]) -> tuple[str, ...]:
    """Return a name for each label from 0 to the largest."""
    if not categories or min(categories) < 0 or max(categories) > _MOST:
        raise DataError("the category ids are out of range. Number them from 1.")
    unused = {i: f"unused {i}" for i in range(max(categories) + 1)}
    return tuple((unused | {0: "background"} | categories).values())
