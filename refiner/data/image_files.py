"""Reads images: one file, the size that many share, or all of them into one tensor."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image

from refiner.core.errors import DataError
from refiner.core.preprocessing import Preprocessing
from refiner.data import pixels
from refiner.data.parts import Part

Size: TypeAlias = tuple[int, int]
"""Height and width."""
_ORIENTATION = 0x0112
_SAMPLED = 1000
"""Images that are read for what many have in common."""
_DECODED = 50
"""Images whose values are read for the same."""


class ImageError(DataError):
    """An image cannot be read. It stays one line on its way out of a loader's worker."""

    def __init__(self, message: str) -> None:
        lines = str(message).strip().splitlines() or [""]
        super().__init__(lines[-1].rpartition("ImageError: ")[2])


@contextmanager
def opened(part: Part, item: object) -> Iterator[Image.Image]:
    """Open an image of a part by its item; what fails inside is the image's fault.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        with part.open(item) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # a damaged image makes Pillow raise anything
        why = f" ({' '.join(str(error).split())})" if type(error) is ValueError else ""
        raise ImageError(
            f"{part.prefix}{item} is not a readable image{why}. Remove or replace it."
        ) from error


def read(part: Part, index: int, channels: int, prepared: Preprocessing | None) -> torch.Tensor:
    """Return an image as uint8, C x H x W; without a preprocessing it keeps its own size.

    Raises:
        ImageError: it cannot be read.
    """
    with opened(part, part.items[index]) as image:
        colours = pixels.coloured(pixels.upright(image), channels)
    if prepared is not None:
        colours = pixels.fitted(colours, prepared.size, prepared.covers, prepared.interpolation)
    return pixels.to_tensor(colours)


def read_all(part: Part, prepared: Preprocessing) -> torch.Tensor:
    """Return all images as one uint8 tensor, N x C x H x W."""
    images = torch.empty((len(part), prepared.channels, *prepared.size), dtype=torch.uint8)
    for i in range(len(part)):
        images[i] = read(part, i, prepared.channels, prepared)
    return images


def read_images(files: Sequence[Path], channels: int, size: Size) -> torch.Tensor:
    """Return image files as one uint8 tensor, N x C x H x W, scaled to cover ``size`` and cut."""
    part = Part(items=files, labels=np.zeros(len(files), dtype=np.int64), open=Image.open)
    return read_all(part, as_they_are(channels, size))


def as_they_are(channels: int, size: Size) -> Preprocessing:
    """Return a preprocessing that scales and cuts images and leaves their values alone."""
    none, one = (0.0,) * channels, (1.0,) * channels
    return Preprocessing(mean=none, std=one, size=size, source="the images")


def sample(part: Part) -> Part:
    """Return at most about a thousand samples, evenly spaced."""
    return part.at(np.arange(0, len(part), max(1, len(part) // _SAMPLED)))


def common_size(*parts: Part) -> Size | None:
    """Return the height and width that images share, or None; of many, some are read.

    Raises:
        ImageError: one cannot be read.
    """
    sizes = set()
    for part in parts:
        drawn = sample(part)
        for item in drawn.items:
            with opened(drawn, item) as image:
                turned = image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
                sizes.add((image.width, image.height) if turned else (image.height, image.width))
    return sizes.pop() if len(sizes) == 1 else None


def check_depth(part: Part) -> None:
    """Raise an ImageError for 16-bit images that use a sixteenth of their range or less.

    Cameras save 12 bits so. Scaled from 0..65535, such images would be nearly black. Some are read.
    """
    most = 0
    drawn = part.at(np.arange(0, len(part), max(1, len(part) // _DECODED)))
    for item in drawn.items:
        with opened(drawn, item) as image:
            if pixels.has_16_bits(image):
                most = max(most, int(np.asarray(image).max()))
    if 0 < most < 4096:
        raise ImageError(
            f"the 16-bit images, such as {part.prefix}{drawn.items[0]}, hold values up to {most:,} "
            "of 65,535 and would be nearly black. Scale them to the whole range, or save 8 bits."
        )
