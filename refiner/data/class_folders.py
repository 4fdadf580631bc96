"""One folder per class: which files are images, and what is left out."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import features

from refiner.core.errors import DataError

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .gif .bmp .dib .webp .ppm .pgm .pbm .pnm .tif .tiff".split()
) | ({".avif"} if features.check("avif") else set())
"""Suffixes of images: those of torchvision, and others that Pillow reads."""
_IGNORED = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"})
"""Files and folders that systems leave behind; hidden ones begin with a dot."""
_SHOWN = 5
"""Most names that a message lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFolders:
    """The images of one part of a data set."""

    files: list[Path]
    labels: list[int]
    """Of each file, as an index of ``classes``."""
    classes: list[str]
    """Names of the class folders that hold images, sorted."""
    empty: list[str]
    """Names of the class folders without an image."""
    left_out: Counter[str]
    """How many files are not images, by suffix."""

    def notes(self, root: Path) -> list[str]:
        """Return what a user should know of what is not used."""
        notes = []
        if self.left_out:
            kinds = ", ".join(f"{n} {kind}" for kind, n in self.left_out.most_common(_SHOWN))
            more = ", and others" if len(self.left_out) > _SHOWN else ""
            total = sum(self.left_out.values())
            plural = "file is" if total == 1 else "files are"
            notes.append(f"{root}: {total} {plural} left out, which are not images: {kinds}{more}.")
        if self.empty:
            plural = "class folder is" if len(self.empty) == 1 else "class folders are"
            notes.append(
                f"{root}: {len(self.empty)} {plural} empty and left out: {listed(self.empty)}."
            )
        return notes


def listed(names: list[str]) -> str:
    """Return the first few names, and how many there are where that is not all."""
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def hidden(name: str) -> bool:
    """Return whether a file or folder is one that people do not see as data."""
    return name.startswith(".") or name.lower() in _IGNORED


def subfolders(root: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without hidden ones.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {root}. Name one with a folder of images per class.")
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not hidden(entry.name))


def list_images(root: Path) -> ClassFolders:
    """Return the images below the class folders of ``root``, at any depth, as torchvision does.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    left_out: Counter[str] = Counter()
    found: dict[str, list[Path]] = {}
    for folder in subfolders(root):
        name = unicodedata.normalize("NFC", folder.name)  # Macs write accents in another form
        found.setdefault(name, []).extend(_images(folder, left_out))
    loose = [file for file in root.iterdir() if file.is_file() and not hidden(file.name)]
    images = [file for file in loose if file.suffix.lower() in IMAGE_SUFFIXES]
    classes = sorted(name for name, files in found.items() if files)
    if not classes:
        here = f", but {len(images)} images beside them" if images else ""
        others = ", ".join(f"{n} {kind}" for kind, n in left_out.most_common(_SHOWN))
        here += f", but other files: {others}" if others else ""
        raise DataError(
            f"{root} holds no images in class folders{here}. Lay it out as PATH/train/CLASS/*.jpg, "
            "with or without PATH/val beside it."
        )
    left_out.update(f"{_kind(file)} outside the class folders" for file in images)
    left_out.update(_kind(file) for file in loose if file not in images)
    return ClassFolders(
        files=[file for name in classes for file in found[name]],
        labels=[label for label, name in enumerate(classes) for _ in found[name]],
        classes=classes,
        empty=sorted(name for name, files in found.items() if not files),
        left_out=left_out,
    )


def holds_images(folder: Path) -> bool:
    """Return whether a folder holds an image at any depth."""
    return next(_walked(folder, Counter()), None) is not None


def _images(folder: Path, left_out: Counter[str]) -> list[Path]:
    return sorted(_walked(folder, left_out))


def _walked(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Yield the images below a folder, through links, which may lead in a circle."""
    seen = {os.path.realpath(folder)}
    for path, folders, files in os.walk(folder, followlinks=True):
        kept = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(path, name))
            if not hidden(name) and real not in seen:
                seen.add(real)
                kept.append(name)
        folders[:] = kept
        for name in files:
            file = Path(path, name)
            if hidden(name):
                continue
            if not file.is_file():
                left_out["broken links"] += 1
            elif file.suffix.lower() not in IMAGE_SUFFIXES:
                left_out[_kind(file)] += 1
            else:
                yield file


def _kind(file: Path) -> str:
    return file.suffix.lower() or "without a suffix"
