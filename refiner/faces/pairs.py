"""Read pairs of faces for verification: lists in LFW's format, or packs."""

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from refiner.core.errors import DataError, one_line
from refiner.data.class_folders import IMAGE_SUFFIXES
from refiner.data.image_files import Size, read_images
from refiner.faces.packs import read_bin
from refiner.faces.verification import Pairs, embed, verification_test


def read_pairs(
    list_file: Path, images_root: Path, *, channels: int = 3, size: Size = (112, 112)
) -> Pairs:
    """Return the pairs that a list in LFW's format names.

    The first line is ``10 300`` for ten folds, each of 300 same and then 300 different pairs, or
    ``500`` for a single fold. A line ``Name i j`` is a same pair, ``Name1 i Name2 j`` a different
    one. Image i of Name is ``Name/Name_<i as four digits>`` with any image suffix. Tabs or spaces
    separate the fields.

    Args:
        list_file: the list.
        images_root: the folder that holds one folder per name.
        channels: of the images; 1 or 3.
        size: to resize to.

    Raises:
        DataError: the list or an image is missing or unreadable; the error names the line.
    """
    lines = _lines(list_file)
    folds, count = _header(list_file, lines[0])
    if len(lines) - 1 != 2 * folds * count:
        raise DataError(
            f"{list_file} has {len(lines) - 1} lines of pairs, but its first line says {folds} "
            f"folds of {count} same and {count} different ones: {2 * folds * count}. Complete it "
            "or correct that."
        )
    numbers: dict[tuple[str, int], int] = {}
    files: list[Path] = []
    ends = np.empty((len(lines) - 1, 2), dtype=np.int64)
    same = np.arange(len(ends)) % (2 * count) < count
    for i, line in enumerate(lines[1:]):
        where = f"{list_file} line {i + 2}"
        for j, image in enumerate(_pair(where, line, bool(same[i]))):
            if image not in numbers:
                numbers[image] = len(files)
                files.append(_image_file(where, images_root, *image))
            ends[i, j] = numbers[image]
    return Pairs(
        images=read_images(files, channels, size),
        first=ends[:, 0],
        second=ends[:, 1],
        same=same,
        folds=np.arange(len(ends)) // (2 * count),
    )


def load_pairs(source: str | Path, *, channels: int = 3, size: Size = (112, 112)) -> Pairs:
    """Return the pairs of ``FILE``, or of ``FILE:FOLDER`` with the folder of its images.

    A file whose name ends in ``.bin`` is a pack, any other a list. By default the images of a list
    are in the folder ``val`` beside it or, without such a folder, in the list's own folder.

    Args:
        source: the file, with or without the folder.
        channels: of the images; 1 or 3.
        size: to resize to.

    Raises:
        DataError: as :func:`read_pairs` and :func:`read_bin`.
    """
    path, root = file_and_folder(source)
    if path.suffix == ".bin":
        return read_bin(path, channels=channels, size=size)
    if root is None:
        root = path.parent / "val" if (path.parent / "val").is_dir() else path.parent
    return read_pairs(path, root, channels=channels, size=size)


def file_and_folder(source: str | Path) -> tuple[Path, Path | None]:
    """Return the two parts of ``FILE:FOLDER``; None for a missing folder."""
    file, colon, folder = str(source).rpartition(":")
    if not colon or Path(source).is_file():
        return Path(source), None
    return Path(file), Path(folder)


def pair_tests(
    model: nn.Module,
    sources: Sequence[str | Path],
    *,
    channels: int = 3,
    size: Size = (112, 112),
    mean: torch.Tensor,
    std: torch.Tensor,
) -> dict[str, Callable[[nn.Module], float]]:
    """Return a measure for ``tests=`` of each list or pack of pairs: the accuracy on it, 0 to 1.

    Args:
        model: on the CPU; two images are tried, so that an error comes before the training.
        sources, channels, size: as for :func:`load_pairs`.
        mean, std: of each channel, or one value for all, on the scale 0 to 1, as in training.

    Raises:
        DataError: pairs cannot be read, or the model's output is not an embedding N x D.
    """
    names = [file_and_folder(source)[0].name for source in sources]
    tests = {}
    for name, source in zip(names, sources, strict=True):
        pairs = load_pairs(source, channels=channels, size=size)
        embed(model, pairs.images[:2], mean=mean, std=std, device=torch.device("cpu"))
        shown = name if names.count(name) == 1 else source
        tests[f"accuracy on {shown}"] = verification_test(pairs, mean=mean, std=std)
    return tests


def find_pairs(folder: Path) -> list[Path]:
    """Return the lists and packs of pairs in a folder of faces: ``pairs.txt`` and ``*.bin``."""
    return [*folder.glob("pairs.txt"), *sorted(folder.glob("*.bin"))]


def _lines(list_file: Path) -> list[str]:
    if not list_file.is_file():
        raise DataError(f"there is no file {list_file}. Name a list of pairs.")
    try:
        text = list_file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise DataError(
            f"the list of pairs {list_file} cannot be read ({one_line(error, 100)}). Name a text "
            "file."
        ) from error
    return text.rstrip().split("\n")


def _header(list_file: Path, line: str) -> tuple[int, int]:
    """Return the number of folds, and the number of same pairs in each."""
    fields = [int(field) for field in line.split() if field.isdecimal()]
    if len(fields) != len(line.split()) or len(fields) not in (1, 2) or min(fields) < 1:
        raise DataError(
            f"{list_file} line 1 is {line[:60]!r}. Begin with the number of folds and the number "
            "of same pairs in each, such as '10 300', or with the latter alone."
        )
    return (fields[0], fields[1]) if len(fields) == 2 else (1, fields[0])


def _pair(where: str, line: str, same: bool) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return the two images of a pair, each as its name and number."""
    match line.split(), same:
        case [name, i, j], True if i.isdecimal() and j.isdecimal():
            return (name, int(i)), (name, int(j))
        case [name, i, other, j], False if i.isdecimal() and j.isdecimal():
            return (name, int(i)), (other, int(j))
    form = "same pair, 'Name i j'" if same else "different pair, 'Name1 i Name2 j'"
    raise DataError(f"{where} is {line[:60]!r}. By the first line it has to be a {form}.")


def _image_file(where: str, root: Path, name: str, number: int) -> Path:
    stem = f"{name}_{number:04d}"
    inside = Path(name).name == name  # a name with a slash in it could lead anywhere
    for file in sorted((root / name).glob(f"{glob.escape(stem)}.*") if inside else ()):
        if file.name.removeprefix(stem).lower() in IMAGE_SUFFIXES:
            return file
    raise DataError(
        f"{where} names the image {name}/{stem}, which {root} lacks. Add it, or name "
        "another folder."
    )
