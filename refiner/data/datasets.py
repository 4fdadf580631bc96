"""Data sets by name, as loaders of (images, labels)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypedDict

import numpy as np
import torch
import torch.nn.functional as F

from refiner.core.errors import ConfigError, DataError, one_line
from refiner.core.randomness import derive_seed
from refiner.core.types import Loader
from refiner.core.user_code import load_function
from refiner.data.identities import load_identities
from refiner.data.identity_choice import check_positive
from refiner.data.image_folder import (
    Size,
    common_size,
    disk_loader,
    fits_in_memory,
    list_images,
    photo_transform,
    plain_transform,
    read_images,
)
from refiner.data.loaders import VALIDATION_SHARE, Data
from refiner.data.split import Indices, stratified
from refiner.data.tensor_loader import TensorLoader

DATA_FORMS = "digits, cifar10, cifar100, folder:PATH, faces:PATH or FILE.py:FUNCTION"
_PHOTO_SIZE = (224, 224)
"""Size for photographs of different sizes; that of ImageNet."""
_LEAST_VALIDATION = 1000
"""Validation images that a limit keeps: with fewer, networks can hardly be compared."""
_Part: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Images, uint8, N x C x H x W, and their labels, int64, N."""
_Files: TypeAlias = tuple[list[Path], list[int]]
"""Files of images and their labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    batch_size: int
    channels: int
    image_size: int | None
    limit: int | None
    seed: int


class _Scale(TypedDict):
    """Mean and standard deviation of each channel, on the scale 0 to 1."""

    mean: torch.Tensor
    std: torch.Tensor


def load_data(
    spec: str,
    *,
    batch_size: int = 64,
    channels: int = 3,
    image_size: int | None = None,
    root: str | Path = "data",
    limit: int | None = None,
    seed: int = 0,
) -> Data:
    """Return the data set that ``spec`` names.

    Args:
        spec: ``digits``, ``cifar10``, ``cifar100``, ``folder:PATH``, ``faces:PATH`` (see
            :func:`load_identities`) or ``FILE.py:FUNCTION``, a function that returns (training
            loader, validation loader or None).
        batch_size: images per training batch; validation batches hold 256 or more.
        channels: of the images, 1 or 3.
        image_size: height and width; by default the size that all images share, else 224. Images
            of other proportions are cropped, not distorted.
        root: folder of torchvision's archives.
        limit: use about this many training images at most, the same share of each class, and as
            many validation images, but at least a thousand.
        seed: fixes the validation split and the choice of ``limit``.

    Raises:
        ConfigError: a number is out of its range, or cannot be used with this data.
        DataError: the name is unknown, or the data is missing or unreadable.
    """
    check_positive(batch_size=batch_size, image_size=image_size, limit=limit)
    options = _Options(
        batch_size=batch_size,
        channels=1 if channels == 1 else 3,
        image_size=image_size,
        limit=limit,
        seed=seed,
    )
    if spec == "digits":
        return _digits(options)
    if spec in ("cifar10", "cifar100"):
        return _cifar(spec, Path(root), options)
    if spec.startswith("folder:"):
        return _folder(Path(spec.removeprefix("folder:")), options)
    if spec.startswith("faces:"):
        return load_identities(
            spec.removeprefix("faces:"),
            batch_size=batch_size,
            channels=options.channels,
            image_size=image_size,
            limit=limit,
            seed=seed,
        )
    if ":" in spec and not spec.endswith(":"):
        return _user_data(spec, options)
    raise DataError(f"unknown data {spec!r}. Choose {DATA_FORMS}.")


def _digits(options: _Options) -> Data:
    from sklearn.datasets import load_digits

    digits, size = load_digits(), options.image_size or 32
    pixels = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
    images = pixels.round().to(torch.uint8).repeat(1, options.channels, 1, 1)
    note = (
        "digits: 1,797 real images of handwritten digits that ship with scikit-learn, resized from "
        f"8x8 to {size}x{size}. They show that all works; they are too easy to rank architectures."
    )
    parts = _split(images, torch.from_numpy(digits.target).long(), options.seed)
    names = [str(name) for name in digits.target_names]
    return _in_memory(*parts, names, "digits", options, pad=size // 16, flip=False, note=note)


def _cifar(name: str, root: Path, options: _Options) -> Data:
    import torchvision

    kind = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[
        name
    ]
    missing = not root.exists()
    try:
        data = kind(str(root), train=True, download=True)
    except Exception as error:
        if missing and root.is_dir() and not any(root.iterdir()):
            root.rmdir()  # torchvision made it
        raise DataError(
            f"{name} is not in {root} and cannot be downloaded ({one_line(error, 100)}). "
            f"Put the archive {kind.filename} into {root}, or use folder:PATH."
        ) from error
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    if options.channels == 1:
        images = images.float().mean(1, keepdim=True).round().to(torch.uint8)
    if options.image_size is not None:
        size = (options.image_size, options.image_size)
        images = F.interpolate(images, size=size, mode="bilinear", antialias=True)
    parts = _split(images, torch.tensor(data.targets), options.seed)
    return _in_memory(*parts, data.classes, name, options, pad=images.shape[-1] // 8, flip=True)


def _folder(path: Path, options: _Options) -> Data:
    train, val, classes = _folder_files(path, options)
    shared = common_size([*train[0], *val[0]])
    size = (options.image_size,) * 2 if options.image_size else shared or _PHOTO_SIZE
    photos = shared is None or shared[0] * size[1] != shared[1] * size[0]
    if photos or not fits_in_memory(len(train[0]) + len(val[0]), options.channels, size):
        return _on_disk(path, train, val, classes, options, size, photos=photos)
    parts = [
        (read_images(files, options.channels, size), torch.tensor(labels))
        for files, labels in (train, val)
    ]
    options = replace(options, limit=None)  # applied above, before anything was read
    pad = max(1, size[0] // 8)
    name = f"folder:{path}"
    return _in_memory(parts[0], parts[1], classes, name, options, pad=pad, flip=True)


def _folder_files(path: Path, options: _Options) -> tuple[_Files, _Files, list[str]]:
    """Return the files to train on, those to validate with, and the names of the classes."""
    train_root = path / "train" if (path / "train").is_dir() else path
    files, labels, classes = list_images(train_root)
    if len(classes) < 2:
        raise DataError(f"{train_root} holds images of only one class. Add another class.")
    train: _Files = (files, labels)
    if (path / "val").is_dir():
        val_files, val_labels, _ = list_images(path / "val", classes)
        val: _Files = (val_files, val_labels)
    else:
        keep, held = stratified(
            np.array(labels), VALIDATION_SHARE, derive_seed(options.seed, "split")
        )
        train, val = _at((files, labels), keep), _at((files, labels), held)
        if not val[0]:
            raise DataError(f"{path} has no class of two images to validate with. Add images.")
    train = _at(train, _limited(np.array(train[1]), options.limit, options.seed))
    val = _at(val, _limited(np.array(val[1]), _validation_limit(options), options.seed))
    return train, val, classes


def _at(part: _Files, indices: Indices) -> _Files:
    files, labels = part
    return [files[i] for i in indices], [labels[i] for i in indices]


def _on_disk(
    path: Path,
    train: _Files,
    val: _Files,
    classes: list[str],
    options: _Options,
    size: Size,
    *,
    photos: bool,
) -> Data:
    """Return data whose images are read from disk, each time that they are needed."""
    files = train[0]
    scale = _scale(read_images(files[:: max(1, len(files) // 1000)], options.channels, size))
    prepare = photo_transform if photos else partial(plain_transform, pad=max(1, size[0] // 8))

    def loader(part: _Files, batch_size: int, training: bool) -> Loader:
        transform = prepare(size, train=training, **scale)
        read_size = None if photos else size
        return disk_loader(
            *part, options.channels, transform, batch_size, train=training, size=read_size
        )

    return Data(
        train=loader(train, options.batch_size, True),
        val=loader(val, max(256, options.batch_size), False),
        name=f"folder:{path}",
        classes=tuple(classes),
        **scale,
    )


def _user_data(spec: str, options: _Options) -> Data:
    for option, value in (("--limit", options.limit), ("--image-size", options.image_size)):
        if value is not None:
            raise ConfigError(f"{option} does not apply to {spec}, which decides. Leave it out.")
    function = load_function(spec, DataError)
    try:
        loaders = function()
    except Exception as error:
        raise DataError(f"{spec} raised {one_line(error)}") from error
    if isinstance(loaders, tuple | list) and len(loaders) == 2:
        return Data(train=loaders[0], val=loaders[1], name=spec)
    raise DataError(
        f"{spec} returned {type(loaders).__name__}. Return (training loader, validation loader); "
        "None for the second splits a validation part off."
    )


def _split(images: torch.Tensor, labels: torch.Tensor, seed: int) -> tuple[_Part, _Part]:
    train, val = stratified(labels.numpy(), VALIDATION_SHARE, derive_seed(seed, "split"))
    return (images[train], labels[train]), (images[val], labels[val])


def _limited(labels: Indices, limit: int | None, seed: int) -> Indices:
    """Return the indices of about ``limit`` images, the same share of each class."""
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    return stratified(labels, limit / len(labels), derive_seed(seed, "limit"))[1]


def _validation_limit(options: _Options) -> int | None:
    return None if options.limit is None else max(options.limit, _LEAST_VALIDATION)


def _scale(images: torch.Tensor) -> _Scale:
    """Return mean and standard deviation of each channel of uint8 images."""
    pixels = images.float() / 255
    return _Scale(mean=pixels.mean((0, 2, 3)), std=pixels.std((0, 2, 3)).clamp(min=1e-3))


def _in_memory(
    train: _Part,
    val: _Part,
    classes: Iterable[str],
    name: str,
    options: _Options,
    *,
    pad: int,
    flip: bool,
    note: str = "",
) -> Data:
    keep = _limited(train[1].numpy(), options.limit, options.seed)
    images, labels = train[0][keep], train[1][keep]
    keep = _limited(val[1].numpy(), _validation_limit(options), options.seed)
    val = val[0][keep], val[1][keep]
    scale = _scale(images[:: max(1, len(images) // 5000)])
    size = options.batch_size
    return Data(
        train=TensorLoader(
            images, labels, batch_size=size, train=True, pad=pad, flip=flip, **scale
        ),
        val=TensorLoader(*val, batch_size=max(256, size), train=False, **scale),
        name=name,
        classes=tuple(classes),
        note=note,
        **scale,
    )
