"""Turns pictures of any kind into inputs; the Python export holds a copy of these functions."""

import warnings

import numpy as np
import torch
from PIL import Image, ImageOps


def has_16_bits(image: Image.Image) -> bool:
    """Return whether an image holds 16 bits per pixel."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def upright(image: Image.Image) -> Image.Image:
    """Return an image with 8 bits per channel, turned as its EXIF orientation says.

    Sixteen bits are scaled from 0..65535, and floats from 0..1.

    Raises:
        ValueError: the range of its numbers is unknown.
    """
    sixteen = has_16_bits(image)
    floats, unknown = image.mode == "F", image.mode == "I" and not sixteen
    if unknown:
        raise ValueError("it holds numbers of 32 bits, whose range is unknown")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF data
        image = ImageOps.exif_transpose(image)
    if sixteen or floats:
        values = np.asarray(image).astype(np.float64) * (255 if floats else 1 / 257)
        if not (values.min() >= 0 and values.max() <= 255):
            raise ValueError("it holds floats outside 0 to 1, whose range is unknown")
        image = Image.fromarray(values.round().astype(np.uint8))
    return image


def coloured(image: Image.Image, channels: int) -> Image.Image:
    """Return an image as RGB, or as grey where there is one channel; transparency is dropped."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB" if channels == 3 else "L")


def fitted(
    image: Image.Image, size: tuple[int, int], covers: tuple[int, int], interpolation: str
) -> Image.Image:
    """Return an image scaled to cover one box, then cut to a smaller one at its centre.

    Args:
        image: of any size.
        size: height and width to return.
        covers: height and width that the scaled image has at least; one of them is met exactly.
        interpolation: name of a filter of Pillow.
    """
    (height, width), (tall, wide) = size, covers
    if image.width * tall >= image.height * wide:
        scaled = (image.width * tall // image.height, tall)
    else:
        scaled = (wide, image.height * wide // image.width)
    if image.size != scaled:
        image = image.resize(scaled, Image.Resampling[interpolation.upper()])
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return the pixels of an image, uint8, C x H x W."""
    pixels = np.array(image)
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
