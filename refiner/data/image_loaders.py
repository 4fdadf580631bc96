"""Loaders of images: tensors in memory, or images read each time that they are needed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch.utils.data import DataLoader, Dataset

from refiner.core.cpus import available_cpus
from refiner.core.preprocessing import Preprocessing
from refiner.core.types import Loader
from refiner.data.image_files import read, read_all
from refiner.data.parts import Part
from refiner.data.tensor_loader import TensorLoader

Transform: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""Turns a uint8 image, C x H x W, into an input of the model."""
_TENSOR_LIMIT = 2 * 2**30
"""Bytes of uint8 pixels up to which an image set is kept in memory."""


def fits_in_memory(images: int, prepared: Preprocessing) -> bool:
    """Return whether this many images fit in memory as one tensor."""
    height, width = prepared.size
    return images * prepared.channels * height * width <= _TENSOR_LIMIT


def memory_loader(
    part: Part,
    prepared: Preprocessing,
    batch_size: int,
    *,
    train: bool,
    pad: int = 0,
    flip: bool = False,
    images: torch.Tensor | None = None,
) -> TensorLoader:
    """Return a loader of images in memory; training crops padded copies and mirrors.

    Args:
        part: the samples.
        prepared: how each becomes an input.
        batch_size: images per batch.
        train: shuffle and augment.
        pad: pixels of padding for the random crop; 0 means no crop.
        flip: mirror half of the images.
        images: of the part, uint8, N x C x H x W, where they were read already.
    """
    return TensorLoader(
        read_all(part, prepared) if images is None else images,
        torch.from_numpy(part.labels),
        batch_size=batch_size,
        train=train,
        pad=pad if train else 0,
        flip=flip and train,
        mean=torch.tensor(prepared.mean),
        std=torch.tensor(prepared.std),
    )


def disk_loader(
    part: Part,
    prepared: Preprocessing,
    batch_size: int,
    *,
    train: bool,
    photos: bool,
    pad: int = 0,
    flip: bool = True,
) -> Loader:
    """Return a loader that reads each image when it is needed, shuffled in training.

    Args:
        part: the samples.
        prepared: how each becomes an input.
        batch_size: images per batch.
        train: shuffle and augment.
        photos: train on random parts of the images, as is usual for ImageNet; else on images of
            one size, shifted by up to ``pad`` pixels.
        pad: see ``photos``.
        flip: mirror half of the training images.
    """
    augment: Transform | None = None
    if train:
        augment = _photo_cuts(prepared, flip) if photos else _shifts(prepared, pad, flip)
    return DataLoader(
        _DiskImages(part, prepared, augment, whole=train and photos),
        batch_size=batch_size,
        shuffle=train,
        drop_last=train and len(part) >= batch_size,
        num_workers=min(8, available_cpus()),
    )


def _photo_cuts(prepared: Preprocessing, flip: bool) -> Transform:
    from torchvision.transforms import InterpolationMode, v2

    way = InterpolationMode(prepared.interpolation)
    if way not in (InterpolationMode.NEAREST, InterpolationMode.BICUBIC):
        way = InterpolationMode.BILINEAR  # tensors know no other
    cut = v2.RandomResizedCrop(prepared.size, interpolation=way, antialias=True)
    composed: Transform = v2.Compose([cut, *([v2.RandomHorizontalFlip()] if flip else [])])
    return composed


def _shifts(prepared: Preprocessing, pad: int, flip: bool) -> Transform:
    from torchvision.transforms import v2

    # The padding is the mean, which normalising turns into zeros.
    fill = [round(255 * value) for value in prepared.mean]
    shift = v2.RandomCrop(prepared.size, padding=pad or None, fill=fill)
    composed: Transform = v2.Compose([*([v2.RandomHorizontalFlip()] if flip else []), shift])
    return composed


def normalised(pixels: torch.Tensor, prepared: Preprocessing) -> torch.Tensor:
    """Return uint8 pixels, C x H x W, as the network's input, float32."""
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (prepared.mean, prepared.std))
    return (pixels.float() / 255 - mean) / std


class _DiskImages(Dataset[tuple[torch.Tensor, int]]):
    """Images that are read one at a time."""

    def __init__(
        self, part: Part, prepared: Preprocessing, augment: Transform | None, *, whole: bool
    ) -> None:
        self.part, self.prepared, self.augment = part, prepared, augment
        self.read = partial(read, channels=prepared.channels, prepared=None if whole else prepared)
        self.targets = part.labels
        self.files = [str(item) for item in part.items if isinstance(item, Path)]

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = self.read(self.part, index)
        if self.augment is not None:
            pixels = self.augment(pixels)
        return normalised(pixels, self.prepared), int(self.part.labels[index])
