"""Data sets by name, as loaders of (images, labels)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from refiner.core.errors import ConfigError, DataError, one_line
from refiner.core.randomness import derive_seed
from refiner.core.user_code import load_function
from refiner.data.identities import load_identities
from refiner.data.image_folder import (
    common_size,
    disk_loader,
    fits_in_memory,
    list_images,
    photo_transform,
    plain_transform,
    read_images,
)
from refiner.data.loaders import VALIDATION_SHARE, Data
from refiner.data.split import stratified
from refiner.data.tensor_loader import TensorLoader

DATA_FORMS = "digits, cifar10, cifar100, folder:PATH, faces:PATH or FILE.py:FUNCTION"
_PHOTO_SIZE = (224, 224)
"""Of photographs that differ in size; ImageNet's."""
_LEAST_VALIDATION = 1000
"""Images that a limit leaves to validate with: fewer would not tell networks apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    batch_size: int
    channels: int
    image_size: int | None
    limit: int | None
    seed: int


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
            :func:`refiner.data.identities.load_identities`) or ``FILE.py:FUNCTION``, a function that
            returns (training loader, validation loader or None).
        batch_size: images a training batch; validation batches hold 256 or more.
        channels: of the images; 1 or 3.
        image_size: height and width to resize to; by default that of the images, where they agree (of
            many, a thousand are looked at), else 224. Images of other proportions than that are cut, not squashed.
        root: where torchvision keeps its archives.
        limit: use at most about so many training images, the same share of each class, and as many
            validation images, but a thousand of these.
        seed: fixes the split of a validation part and the choice of ``limit``.

    Raises:
        DataError: unknown name, nothing there, or nothing readable.
    """
    for name, value in (("batch_size", batch_size), ("image_size", image_size), ("limit", limit)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}. Give 1 or more.")
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
        for name, value in (("limit", limit), ("image_size", image_size)):
            if value is not None:
                option = "--" + name.replace("_", "-")
                raise ConfigError(
                    f"{option} does not reach loaders of your own. Leave it out; {spec} decides."
                )
        return _user_data(spec)
    raise DataError(f"unknown data {spec!r}. Choose {DATA_FORMS}.")


_Part = tuple[torch.Tensor, torch.Tensor]


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
    train_root = path / "train" if (path / "train").is_dir() else path
    files, labels, classes = list_images(train_root)
    if len(classes) < 2:
        raise DataError(f"{train_root} holds images of one class alone. Add another to tell apart.")
    if (path / "val").is_dir():
        val_files, val_labels, _ = list_images(path / "val", classes)
    else:
        keep, held = stratified(
            np.array(labels), VALIDATION_SHARE, derive_seed(options.seed, "split")
        )
        val_files, val_labels = [files[i] for i in held], [labels[i] for i in held]
        files, labels = [files[i] for i in keep], [labels[i] for i in keep]
        if not val_files:
            raise DataError(f"{path} has no class of two images, so none can validate. Add images.")
    keep = _limited(np.array(labels), options.limit, options.seed)
    files, labels = [files[i] for i in keep], [labels[i] for i in keep]
    keep = _limited(np.array(val_labels), _validation_limit(options), options.seed)
    val_files, val_labels = [val_files[i] for i in keep], [val_labels[i] for i in keep]
    shared = common_size([*files, *val_files])
    size = (options.image_size,) * 2 if options.image_size else shared or _PHOTO_SIZE
    photos = shared is None or shared[0] * size[1] != shared[1] * size[0]
    pad = max(1, size[0] // 8)
    channels, name = options.channels, f"folder:{path}"
    if photos or not fits_in_memory(len(files) + len(val_files), channels, size):
        scale = _scale(read_images(files[:: max(1, len(files) // 1000)], channels, size))
        prepare = photo_transform if photos else partial(plain_transform, pad=pad)

        def loader(files: list[Path], labels: list[int], batch_size: int, train: bool) -> Any:
            transform = prepare(size, train=train, **scale)
            read_size = None if photos else size
            return disk_loader(
                files, labels, channels, transform, batch_size, train=train, size=read_size
            )

        return Data(
            train=loader(files, labels, options.batch_size, True),
            val=loader(val_files, val_labels, max(256, options.batch_size), False),
            name=name,
            classes=tuple(classes),
            **scale,
        )
    part = read_images(files, channels, size), torch.tensor(labels)
    val_part = read_images(val_files, channels, size), torch.tensor(val_labels)
    options = replace(options, limit=None)  # applied above, before anything was read
    return _in_memory(part, val_part, classes, name, options, pad=pad, flip=True)


def _user_data(spec: str) -> Data:
    function = load_function(spec, DataError)
    try:
        loaders = function()
    except Exception as error:
        raise DataError(f"{spec} raised {one_line(error)}") from error
    if isinstance(loaders, tuple | list) and len(loaders) == 2:
        return Data(train=loaders[0], val=loaders[1], name=spec)
    raise DataError(
        f"{spec} returned {type(loaders).__name__}. Return (training loader, validation loader); "
        "None for the second splits one off."
    )


def _split(images: torch.Tensor, labels: torch.Tensor, seed: int) -> tuple[_Part, _Part]:
    train, val = stratified(labels.numpy(), VALIDATION_SHARE, derive_seed(seed, "split"))
    return (images[train], labels[train]), (images[val], labels[val])


def _limited(labels: np.ndarray[Any, Any], limit: int | None, seed: int) -> np.ndarray[Any, Any]:
    """Return the indices of about ``limit`` images, the same share of each class."""
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    return stratified(labels, limit / len(labels), derive_seed(seed, "limit"))[1]


def _validation_limit(options: _Options) -> int | None:
    return None if options.limit is None else max(options.limit, _LEAST_VALIDATION)


def _scale(images: torch.Tensor) -> dict[str, Any]:
    """Return mean and standard deviation of each channel of uint8 images, on the scale 0 to 1."""
    pixels = images.float() / 255
    return {"mean": pixels.mean((0, 2, 3)), "std": pixels.std((0, 2, 3)).clamp(min=1e-3)}


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
