"""Read pairs of faces to verify: lists in LFW's format, and the packs of the face community.

Pickles can run code when they are read. A pack is read with an unpickler that knows no name but one,
and that one stands for a function of this file.
"""

import glob
import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from refiner.errors import DataError, one_line
from refiner.image_folder import IMAGE_SUFFIXES, Size, read_images
from refiner.verification import Pairs, embed, verification_test

_BIN_FOLDS = 10


def read_pairs(
    list_file: Path, images_root: Path, *, channels: int = 3, size: Size = (112, 112)
) -> Pairs:
    """Return the pairs that a list in LFW's format names.

    Its first line is ``10 300``, ten folds of 300 same pairs and then 300 different ones each, or
    ``500``, a single fold. A line ``Name i j`` is a same pair, ``Name1 i Name2 j`` a different one. The
    image i of Name is ``Name/Name_<i as four digits>`` with any image suffix. Fields are split by tabs
    or spaces.

    Args:
        list_file: the list.
        images_root: the folder that holds one folder a name.
        channels: of the images; 1 or 3.
        size: to resize to.

    Raises:
        DataError: the list or an image is missing or cannot be read; a line is named by its number.
    """
    lines = _lines(list_file)
    folds, count = _header(list_file, lines[0])
    if len(lines) - 1 != 2 * folds * count:
        raise DataError(
            f"{list_file} has {len(lines) - 1} lines of pairs, but its first line says {folds} folds of "
            f"{count} same and {count} different ones: {2 * folds * count}. Complete it or correct that."
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
    """Return the pairs that a user names: ``FILE``, or ``FILE:FOLDER`` with the folder of its images.

    A file whose name ends in ``.bin`` is a pack, any other a list. By default the images of a list are
    in the folder ``val`` beside it or, where there is none, in the list's own folder.

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
    """Return the two parts of ``FILE:FOLDER``, None for a folder that is not named."""
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
        model: on the CPU; is tried on two images, so that a misfit is told before it is trained.
        sources, channels, size: as for :func:`load_pairs`.
        mean, std: of each channel, or one value for all, on the scale 0 to 1, as in training.

    Raises:
        DataError: pairs cannot be read, or the model gives no embeddings N x D.
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
    """Return the lists and packs of pairs that lie in a folder of faces: ``pairs.txt`` and ``*.bin``."""
    return [*folder.glob("pairs.txt"), *sorted(folder.glob("*.bin"))]


def read_bin(path: Path, *, channels: int = 3, size: Size | None = None) -> Pairs:
    """Return the pairs of a ``.bin`` pack, in which LFW, CFP-FP and AgeDB-30 are passed on.

    It is a pickle of (list of encoded images, list of bools): two images a pair, in order. The folds
    are ten runs of pairs as long as each other or one pair apart, as in ArcFace's published code.
    Identical bytes are one image.

    Args:
        path: the pack, written by Python 3 or 2 with any protocol.
        channels: of the images; 1 or 3.
        size: to resize to; by default the size of the images, which then must agree.

    Raises:
        DataError: it is missing, damaged, or anything but such a pair of lists. No code in it is run.
    """
    encoded, same = _unpacked(path)
    numbers: dict[bytes, int] = {}
    ends = np.array([numbers.setdefault(image, len(numbers)) for image in encoded], dtype=np.int64)
    return Pairs(
        images=_decoded(path, list(numbers), channels, size),
        first=ends[0::2],
        second=ends[1::2],
        same=np.array(same, dtype=bool),
        folds=np.concatenate(
            [
                np.full(len(part), fold, dtype=np.int64)
                for fold, part in enumerate(np.array_split(ends[0::2], _BIN_FOLDS))
            ]
        ),
    )


def _lines(list_file: Path) -> list[str]:
    if not list_file.is_file():
        raise DataError(f"there is no file {list_file}. Name a list of pairs.")
    try:
        text = list_file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise DataError(
            f"the list of pairs {list_file} cannot be read ({one_line(error, 100)}). Name a text file."
        ) from error
    return text.rstrip().split("\n")


def _header(list_file: Path, line: str) -> tuple[int, int]:
    """Return the number of folds, and that of the same pairs in each."""
    fields = [int(field) for field in line.split() if field.isdecimal()]
    if len(fields) != len(line.split()) or len(fields) not in (1, 2) or min(fields) < 1:
        raise DataError(
            f"{list_file} line 1 is {line[:60]!r}. Begin with the number of folds and that of the same "
            "pairs in each, such as '10 300', or the latter alone."
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
        f"{where} names the image {name}/{stem}, which {root} lacks. Add it, or name another folder."
    )


class _Latin1:
    """``_codecs.encode`` as Python 3 calls it to write bytes with protocols below 3, and nothing more.

    An object without attributes: a pickle can set those of a function.
    """

    __slots__ = ()

    def __call__(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("it encodes something else than bytes")
        return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Reads lists, tuples, bytes and bools; what else a pickle can name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _Latin1()
        raise pickle.UnpicklingError(f"it asks for {module + '.' + name!r}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"it asks for the persistent object {pid!r}")


def _unpacked(path: Path) -> tuple[list[bytes], list[bool]]:
    if not path.is_file():
        raise DataError(f"there is no file {path}. Name a pack of pairs.")
    try:
        # Read whole: a length that a damaged pack claims then asks for no memory that is not there.
        content = io.BytesIO(path.read_bytes())
        pack = _Unpickler(content, encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises anything
        raise DataError(
            f"{path} cannot be read as a pack of pairs ({one_line(error, 100)}). Name a .bin file such "
            "as lfw.bin, as it was published."
        ) from error
    if not isinstance(pack, tuple | list) or [type(part) for part in pack] != [list, list]:
        raise _no_pack(path, "two lists")
    encoded, same = pack
    if any(type(image) is not bytes for image in encoded):
        raise _no_pack(path, "images as bytes in its first list")
    if any(type(value) is not bool for value in same):
        raise _no_pack(path, "bools in its second list")
    if not same or len(encoded) != 2 * len(same):
        raise _no_pack(path, f"two images a pair, but {len(encoded)} images and {len(same)} bools,")
    return encoded, same


def _no_pack(path: Path, wanted: str) -> DataError:
    return DataError(f"{path} does not hold {wanted}. Name a .bin file such as lfw.bin.")


def _decoded(path: Path, encoded: list[bytes], channels: int, size: Size | None) -> torch.Tensor:
    """Return images as uint8, U x C x H x W."""
    first = _opened(path, 0, encoded[0], channels)
    height, width = size or (first.height, first.width)
    pixels = np.empty((len(encoded), height, width, channels), dtype=np.uint8)
    for i, content in enumerate(encoded):
        image = _opened(path, i, content, channels)
        if (image.height, image.width) != (height, width):
            if size is None:
                raise DataError(
                    f"image {i} of {path} is {image.height} x {image.width}, the first is {height} x "
                    f"{width}. Give a size to resize them to."
                )
            image = image.resize((width, height))
        pixels[i] = np.asarray(image).reshape(height, width, channels)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _opened(path: Path, number: int, content: bytes, channels: int) -> Any:
    from PIL import Image

    try:
        # Of Pillow's other formats, one hands the content to an interpreter (EPS).
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            return image.convert("RGB" if channels == 3 else "L")
    except Exception as error:  # Pillow raises whatever damaged bytes lead it to
        raise DataError(
            f"image {number} of {path} is no readable JPEG or PNG. Get the pack again."
        ) from error
