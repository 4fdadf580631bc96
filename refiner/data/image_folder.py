"""A folder of images with one folder per class: tensors in memory, or files read from disk."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from refiner.core.cpus import available_cpus
from refiner.core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
Size: TypeAlias = tuple[int, int]
"""Height and width."""
Transform: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""Turns a uint8 image, C x H x W, into an input of the model."""
_TENSOR_LIMIT = 2 * 2**30
"""Bytes of uint8 pixels up to which an image set is kept in memory."""


def fits_in_memory(images: int, channels: int, size: Size) -> bool:
    """Return whether this many images fit in memory as one tensor."""
    return images * channels * size[0] * size[1] <= _TENSOR_LIMIT


def list_images(
    root: Path, classes: list[str] | None = None
) -> tuple[list[Path], list[int], list[str]]:
    """Return the files below the class folders of ``root``, their labels, and the class names.

    Raises:
        DataError: there is no such folder, no image, or a class that is not among ``classes``.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {root}. Name one with a folder of images per class.")
    found = sorted(
        entry.name
        for entry in root.iterdir()
        if entry.is_dir() and entry.name[0] != "." and _images(entry)
    )
    names = found if classes is None else classes
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise DataError(
            f"{root} has the class {unknown[0]!r}, which the training images lack. Remove it."
        )
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        images = _images(root / name)
        files += images
        labels += [label] * len(images)
    if not files:
        raise DataError(
            f"{root} holds no images in class folders. Lay it out as PATH/train/CLASS/*.jpg, "
            "with or without PATH/val beside it."
        )
    return files, labels, names


def _images(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES)


def common_size(files: list[Path]) -> Size | None:
    """Return the size that images share, or None; of more than a thousand, some are read."""
    sizes = set()
    for file in files[:: max(1, len(files) // 1000)]:
        with _opened(file) as image:
            sizes.add((image.height, image.width))
    return sizes.pop() if len(sizes) == 1 else None


def read_images(files: list[Path], channels: int, size: Size) -> torch.Tensor:
    """Return all images as one uint8 tensor, N x C x H x W."""
    pixels = np.empty((len(files), *size, channels), dtype=np.uint8)
    for i, file in enumerate(files):
        pixels[i] = _read(file, channels, size)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def disk_loader(
    files: list[Path],
    labels: list[int],
    channels: int,
    transform: Transform,
    batch_size: int,
    *,
    train: bool,
    size: Size | None = None,
) -> DataLoader[tuple[torch.Tensor, int]]:
    """Return a loader that reads images from disk, shuffled in training.

    Each is resized to ``size``, where that is given, before the transform.
    """
    return DataLoader(
        _DiskImages(files, labels, channels, transform, size),
        batch_size=batch_size,
        shuffle=train,
        drop_last=train and len(files) >= batch_size,
        num_workers=min(8, available_cpus()),
    )


def plain_transform(
    size: Size, *, mean: torch.Tensor, std: torch.Tensor, train: bool, pad: int
) -> Transform:
    """Return the transform of images of one size; training mirrors and shifts by up to ``pad``."""
    from torchvision.transforms import v2

    augmentation = [v2.RandomHorizontalFlip(), v2.RandomCrop(size, padding=pad)] if train else []
    composed: Transform = v2.Compose([*_normalised(mean, std), *augmentation])
    return composed


def photo_transform(size: Size, *, mean: torch.Tensor, std: torch.Tensor, train: bool) -> Transform:
    """Return the transform of photographs of any shape.

    Training crops a random 8 to 100 % of the area at 3:4 to 4:3, resizes it, and mirrors half of
    the images (Szegedy et al., Going Deeper with Convolutions, 2015, section 6). Validation resizes
    the shorter side to 256 / 224 of the size and crops the centre (He et al., 2016, section 3.4).
    """
    from torchvision.transforms import v2

    if train:
        cut = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]
    else:
        cut = [v2.Resize(round(max(size) * 256 / 224)), v2.CenterCrop(size)]
    composed: Transform = v2.Compose([*cut, *_normalised(mean, std)])
    return composed


def _normalised(mean: torch.Tensor, std: torch.Tensor) -> list[Transform]:
    from torchvision.transforms import v2

    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean.tolist(), std.tolist())]


class _DiskImages(Dataset[tuple[torch.Tensor, int]]):
    """Images that are read from disk one at a time."""

    def __init__(
        self,
        files: list[Path],
        labels: list[int],
        channels: int,
        transform: Transform,
        size: Size | None,
    ) -> None:
        self.files, self.labels = files, labels
        self.channels, self.transform, self.size = channels, transform, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = _read(self.files[index], self.channels, self.size)
        image = self.transform(torch.from_numpy(pixels.copy()).permute(2, 0, 1))
        return image, self.labels[index]


def _unreadable(file: Path) -> DataError:
    return DataError(f"{file} is not a readable image. Remove or replace it.")


def _opened(file: Path) -> "Image":
    from PIL import Image

    try:
        return Image.open(file)
    except Exception as error:  # a damaged file makes Pillow raise anything
        raise _unreadable(file) from error


def _eight_bits(image: "Image") -> "Image":
    """Return a 16-bit image with 8 bits; Pillow itself would clip all values above 255."""
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float64)
    if image.mode != "I" or values.max() > 255:
        values = values / 257
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def _read(file: Path, channels: int, size: Size | None) -> NDArray[np.uint8]:
    """Return an image as uint8, H x W x C; without ``size`` it keeps its own."""
    with _opened(file) as image:
        try:
            converted = _eight_bits(image).convert("RGB" if channels == 3 else "L")
        except Exception as error:
            raise _unreadable(file) from error
        if size is not None and (converted.height, converted.width) != size:
            converted = converted.resize((size[1], size[0]))
        pixels = np.asarray(converted)
        return pixels if pixels.ndim == 3 else pixels[:, :, None]
