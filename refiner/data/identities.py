"""Folders of identities, to train embeddings on; :mod:`refiner.data.identity_choice` draws them."""

from pathlib import Path

import numpy as np
import torch

from refiner.core.errors import DataError
from refiner.core.types import Loader
from refiner.data.identity_choice import IdentityChoice, check_positive
from refiner.data.image_folder import (
    Size,
    common_size,
    disk_loader,
    fits_in_memory,
    list_images,
    plain_transform,
    read_images,
)
from refiner.data.loaders import Data
from refiner.data.split import Indices
from refiner.data.tensor_loader import TensorLoader

FACE_MEAN = torch.tensor([0.5])
"""Mean of every channel on the scale 0 to 1, as ArcFace scales: (pixel - 127.5) / 127.5."""
FACE_STD = torch.tensor([0.5])
"""Standard deviation of every channel, from the same source."""
FACE_SIZE = (112, 112)
"""Height and width that ArcFace aligns faces to."""


def load_identities(
    path: str | Path,
    *,
    batch_size: int = 64,
    identities: int | None = None,
    images_per_identity: int | None = None,
    train_images: int | None = None,
    min_images: int = 2,
    channels: int = 3,
    image_size: int | None = None,
    validation_share: float | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Data:
    """Return the images of a folder of identities, to train and to validate with.

    Images that do not fit in memory are read from disk. Training mirrors half of the images and
    augments in no other way, as ArcFace does. Both parts hold the same identities.

    Args:
        path: holds ``IDENTITY/*.jpg`` or ``train/IDENTITY/*.jpg``; only ``train`` is read then.
        batch_size: images per training batch; validation batches hold 256 or more.
        identities: draw this many that have ``images_per_identity`` images; by default use all.
        images_per_identity: draw this many; without ``identities``, at most this many.
        train_images: train on this many of them, validate with the rest; needs ``identities``.
            By default a fifth of each identity's images validates.
        min_images: leave out identities with fewer images.
        channels: of the images, 1 or 3.
        image_size: height and width; by default the size that all images share, else 112.
        validation_share: hold back this share of all images; excludes ``train_images``.
        limit: draw identities, at least two, for at most this many training images.
        seed: fixes what is drawn.

    Raises:
        ConfigError: a number is out of its range, or lacks another number that it needs.
        DataError: the folder is missing or unreadable, or has too few identities or images.
    """
    check_positive(batch_size=batch_size, image_size=image_size)
    choice = IdentityChoice(
        identities=identities,
        images=images_per_identity,
        train_images=train_images,
        min_images=min_images,
        validation_share=validation_share,
        limit=limit,
        seed=seed,
    )
    return _loaded(Path(path), choice, batch_size, channels, image_size)


def _loaded(
    path: Path, choice: IdentityChoice, batch_size: int, channels: int, image_size: int | None
) -> Data:
    root = _root(path)
    files, every_label, names = list_images(root)
    labels = np.array(every_label)
    drawn = choice.draw(root, labels)
    train, val, chosen = drawn.train, drawn.val, drawn.identities
    shared = common_size([files[i] for i in drawn.picked])
    size = (image_size, image_size) if image_size else shared or FACE_SIZE
    in_memory = fits_in_memory(len(train) + len(val), channels, size)

    def loader(images: Indices, batch: int, training: bool) -> Loader:
        part = [files[i] for i in images]
        numbers = np.searchsorted(chosen, labels[images])
        make = _memory_loader if in_memory else _disk_loader
        return make(part, numbers, channels, size, batch, training)

    return Data(
        train=loader(train, batch_size, True),
        val=loader(val, max(256, batch_size), False),
        name=f"identities:{path}",
        classes=tuple(names[label] for label in chosen),
        note=f"{len(chosen)} of {len(names)} identities; {len(train)} images train, "
        f"{len(val)} validate.",
        mean=FACE_MEAN,
        std=FACE_STD,
    )


def _root(path: Path) -> Path:
    """Return the folder of the identities.

    Raises:
        DataError: it would hold the folder ``val`` of other people, and take that for a person.
    """
    if (path / "train").is_dir():
        return path / "train"
    if (path / "val").is_dir():
        raise DataError(f"{path} holds val/ but no train/. Put the identities into {path}/train.")
    return path


def _memory_loader(
    files: list[Path], labels: Indices, channels: int, size: Size, batch: int, training: bool
) -> Loader:
    return TensorLoader(
        read_images(files, channels, size),
        torch.from_numpy(labels),
        batch_size=batch,
        train=training,
        flip=training,
        mean=FACE_MEAN,
        std=FACE_STD,
    )


def _disk_loader(
    files: list[Path], labels: Indices, channels: int, size: Size, batch: int, training: bool
) -> Loader:
    transform = plain_transform(size, mean=FACE_MEAN, std=FACE_STD, train=training, pad=0)
    numbers = labels.tolist()
    return disk_loader(files, numbers, channels, transform, batch, train=training, size=size)
