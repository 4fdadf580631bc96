"""A folder of images with its parts: training, validation and test, by their usual names."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from refiner.core.errors import DataError
from refiner.data.class_folders import (
    ClassFolders,
    holds_images,
    list_images,
    listed,
    subfolders,
)
from refiner.data.parts import ImageSet, Part

PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Names of the folder of each part, in any case."""
_MOST_COMPARED = 200_000
"""Files up to which copies in two parts are looked for."""


def folder_images(path: Path) -> ImageSet:
    """Return the images of ``path``: its parts, or its class folders where it has no parts.

    Raises:
        DataError: there are no images, two folders for one part, or parts whose classes differ.
    """
    roots = part_folders(path)
    notes: list[str] = []
    if "train" not in roots:
        listing = _listed_classes(path)
        return ImageSet(
            name=f"folder:{path}",
            classes=tuple(listing.classes),
            train=_part(listing),
            notes=tuple(listing.notes(path)),
        )
    listings: dict[str, ClassFolders] = {}
    for kind, root in roots.items():
        if kind != "train" and not any(map(holds_images, subfolders(root))):
            notes.append(f"{root} holds no images in class folders, so it is not used.")
            continue
        listings[kind] = list_images(root) if kind != "train" else _listed_classes(root)
        notes += listings[kind].notes(root)
        check_classes(roots["train"], listings["train"].classes, root, listings[kind].classes)
    used = {root.relative_to(path).parts[0] for root in roots.values()}
    beside = [e.name for e in subfolders(path) if e.name not in used and holds_images(e)]
    if beside:
        notes.append(f"{path}: images beside {roots['train'].name} are left out: {listed(beside)}.")
    return ImageSet(
        name=f"folder:{path}",
        classes=tuple(listings["train"].classes),
        train=_part(listings["train"]),
        val=_part(listings["val"]) if "val" in listings else None,
        test=_part(listings["test"]) if "test" in listings else None,
        notes=tuple(notes),
    )


def part_folders(path: Path) -> dict[str, Path]:
    """Return the folder of each part; none where there is no training part.

    A folder that holds images of its own is a class, whatever its name: ``train`` may be one.

    Raises:
        DataError: there is no such folder, or two for one part, or no training part among others.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for folder in subfolders(path):
        for kind, names in PART_NAMES.items():
            if folder.name.lower() in names:
                found[kind].append(_unwrapped(folder))
    if not found.get("train"):
        related = _related(subfolders(path))
        if related:
            return related
    train = found.get("train", [])
    others = [folder for kind in ("val", "test") for folder in found.get(kind, ())]
    if not [folder for folder in train if subfolders(folder)]:
        if others and all(subfolders(folder) for folder in others) and not train:
            raise DataError(
                f"{path} holds {listed([f.name for f in others])} but no training part. Add "
                f"{path}/train."
            )
        return {}
    for folders in found.values():
        if len(folders) > 1:
            raise DataError(
                f"{path} holds {' and '.join(f.name for f in folders)}, which name one part. Keep "
                "one of them."
            )
    return {kind: found[kind][0] for kind in PART_NAMES if kind in found}


def _unwrapped(folder: Path) -> Path:
    """Return a part's folder, or the one in it: archives often unpack to ``train/train``."""
    inner = subfolders(folder)
    wraps = len(inner) == 1 and inner[0].name.lower() == folder.name.lower()
    return inner[0] if wraps and len(subfolders(inner[0])) > 1 else folder


def _is_part(name: str) -> bool:
    return any(name.lower() in names for names in PART_NAMES.values())


def _related(folders: Sequence[Path]) -> dict[str, Path]:
    """Return parts whose names share all else, as ``training_set`` and ``test_set`` do.

    They need folders of the same names inside, so that no class is taken for a part.
    """
    groups: dict[tuple[str, ...], dict[str, Path]] = defaultdict(dict)
    for folder in folders:
        words = re.findall("[a-z]+|[0-9]+", folder.name.lower())
        kinds = [kind for word in words for kind, names in PART_NAMES.items() if word in names]
        if len(kinds) == 1:
            known = PART_NAMES[kinds[0]]
            rest = tuple(word for word in words if word not in known)
            groups[rest].setdefault(kinds[0], _unwrapped(folder))
    for group in groups.values():
        inner = [{f.name for f in subfolders(folder)} for folder in group.values()]
        if "train" in group and len(group) > 1 and set.intersection(*inner):
            return {kind: group[kind] for kind in PART_NAMES if kind in group}
    return {}


def copies_note(train: Iterable[Path], others: Iterable[Path], what: str) -> list[str]:
    """Return a note where files of one part are copies, byte for byte, of training files."""
    train, others = list(train), list(others)
    if len(train) + len(others) > _MOST_COMPARED:
        return []
    sizes = defaultdict(list)
    for file in others:
        sizes[os.path.getsize(file)].append(file)
    twins = [file for file in train if os.path.getsize(file) in sizes]
    seen = {_digest(file) for file in twins}
    compared = {os.path.getsize(file) for file in twins}
    copies = sum(_digest(file) in seen for size in compared for file in sizes[size])
    if not copies:
        return []
    return [f"{copies} of the {len(others):,} {what} images are copies of training images."]


def _digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha1").digest()


def _part(listing: ClassFolders) -> Part:
    return Part(items=listing.files, labels=np.array(listing.labels), open=Image.open)


def _listed_classes(root: Path) -> ClassFolders:
    """Return the images of a folder of two classes or more."""
    listing = list_images(root)
    if len(listing.classes) < 2:
        inside = root / listing.classes[0]
        meant = "train" in part_folders(inside) or len(subfolders(inside)) > 1
        advice = f"Did you mean folder:{inside}?" if meant else "Add another class."
        if _is_part(inside.name) and not subfolders(inside):
            advice = f"Make a folder of images per class in {inside}."
        raise DataError(f"{root} holds images of only one class, {listing.classes[0]!r}. {advice}")
    return listing


def check_classes(
    train: object, classes: Sequence[str], other: object, found: Sequence[str]
) -> None:
    """Raise a DataError where another part has other classes than the training part.

    Args:
        train, other: the parts, as a message names them.
        classes, found: their classes.
    """
    more, fewer = sorted(set(found) - set(classes)), sorted(set(classes) - set(found))
    faults = [f"{other} has {listed(more)}, which {train} lacks"] if more else []
    faults += [f"{other} lacks {listed(fewer)} of {train}"] if fewer else []
    if faults:
        raise DataError(
            f"the classes of the parts differ: {'; '.join(faults)}. Rename, add or remove class "
            "folders."
        )
