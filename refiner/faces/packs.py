"""Read ``.bin`` packs, the format in which pairs of faces for verification are published.

Packs are pickles, and a pickle can run code when it is read. The unpickler here accepts only one
name, and that name stands for a function of this file.
"""

import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Never

import numpy as np
import torch

from refiner.core.errors import DataError, one_line
from refiner.data.image_files import Size
from refiner.faces.verification import Pairs

if TYPE_CHECKING:
    from PIL.Image import Image

_BIN_FOLDS = 10


def read_bin(path: Path, *, channels: int = 3, size: Size | None = None) -> Pairs:
    """Return the pairs of a ``.bin`` pack, such as those of LFW, CFP-FP and AgeDB-30.

    It is a pickle of (list of encoded images, list of bools), two images per pair, in order. The
    folds are ten runs of pairs whose lengths differ by at most one, as in ArcFace's published code.
    Identical bytes are one image.

    Args:
        path: the pack, written by Python 3 or 2 with any protocol.
        channels: of the images; 1 or 3.
        size: to resize to; by default the size of the images, which then must agree.

    Raises:
        DataError: the pack is missing, damaged, or not such a pair of lists. It never runs code.
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


class _Latin1:
    """``_codecs.encode``, only as Python 3 uses it to write bytes with protocols below 3.

    It is an object without attributes, since a pickle can set those of a function.
    """

    __slots__ = ()

    def __call__(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("it encodes something else than bytes")
        return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Reads lists, tuples, bytes and bools, and refuses all other names."""

    def find_class(self, module: str, name: str) -> _Latin1:
        if (module, name) == ("_codecs", "encode"):
            return _Latin1()
        raise pickle.UnpicklingError(f"it asks for {module + '.' + name!r}")

    def persistent_load(self, pid: object) -> Never:
        raise pickle.UnpicklingError(f"it asks for the persistent object {pid!r}")


def _unpacked(path: Path) -> tuple[list[bytes], list[bool]]:
    if not path.is_file():
        raise DataError(f"there is no file {path}. Name a pack of pairs.")
    try:
        # Read as a whole, so that a false length in a damaged pack cannot exhaust the memory.
        content = io.BytesIO(path.read_bytes())
        pack = _Unpickler(content, encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises anything
        raise DataError(
            f"{path} cannot be read as a pack of pairs ({one_line(error, 100)}). Name a published "
            ".bin file such as lfw.bin."
        ) from error
    if not isinstance(pack, tuple | list) or [type(part) for part in pack] != [list, list]:
        raise _no_pack(path, "two lists")
    encoded, same = pack
    if any(type(image) is not bytes for image in encoded):
        raise _no_pack(path, "images as bytes in its first list")
    if any(type(value) is not bool for value in same):
        raise _no_pack(path, "bools in its second list")
    if not same or len(encoded) != 2 * len(same):
        counts = f"{len(encoded)} images and {len(same)} bools"
        raise _no_pack(path, f"two images per pair, but {counts},")
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
                    f"image {i} of {path} is {image.height} x {image.width}, the first is "
                    f"{height} x {width}. Give a size to resize them to."
                )
            image = image.resize((width, height))
        pixels[i] = np.asarray(image).reshape(height, width, channels)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _opened(path: Path, number: int, content: bytes, channels: int) -> "Image":
    from PIL import Image

    try:
        # Pillow hands another format, EPS, to an interpreter.
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            return image.convert("RGB" if channels == 3 else "L")
    except Exception as error:  # damaged bytes make Pillow raise anything
        raise DataError(
            f"image {number} of {path} is not a readable JPEG or PNG. Get the pack again."
        ) from error
