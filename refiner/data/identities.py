"""Folders of identities, to train embeddings on: all of them, or a proxy task drawn from them.

The proxy task is that of the paper's section 4.1.1: 4,000 identities of 40 images each, drawn at
random, 36 of them to train on and 4 to validate with.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from refiner.core.errors import ConfigError, DataError
from refiner.core.randomness import derive_seed
from refiner.data.image_folder import (
    common_size,
    disk_loader,
    fits_in_memory,
    list_images,
    plain_transform,
    read_images,
)
from refiner.data.loaders import VALIDATION_SHARE, Data
from refiner.data.split import members, stratified
from refiner.data.tensor_loader import TensorLoader

FACE_MEAN = torch.tensor([0.5])
"""Mean of every channel on the scale 0 to 1, as ArcFace scales: (pixel - 127.5) / 127.5."""
FACE_STD = torch.tensor([0.5])
"""Standard deviation of every channel, of the same source."""
FACE_SIZE = (112, 112)
"""Height and width that ArcFace aligns faces to."""

_Split = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


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

    Where they are too many for the memory they are read as they are needed.

    Training mirrors half of the images and augments in no other way, as ArcFace does. The same
    identities are in both parts, each with at least one image to train on.

    Args:
        path: holds ``IDENTITY/*.jpg`` or ``train/IDENTITY/*.jpg``; what lies beside ``train``, such
            as images of other people to verify with, is not read.
        batch_size: images a training batch; validation batches hold 256 or more.
        identities: draw so many identities, of those that have ``images_per_identity`` images; by
            default all that have ``min_images``.
        images_per_identity: draw so many images of each identity; without ``identities``, at most
            so many.
        train_images: how many of these train, the rest validate; goes with ``identities``. By
            default a fifth of each identity's images validates.
        min_images: leave out identities with fewer images.
        channels: of the images; 1 or 3.
        image_size: height and width to resize to; by default that of the images, where they agree, else
            112.
        validation_share: hold back this share of all images, of whichever identities, one at least;
            by default a fifth of each identity's. Goes without ``train_images``.
        limit: draw identities, two at least, as long as so many images are enough to train on.
        seed: fixes what is drawn.

    Raises:
        ConfigError: a number is out of its range, or lacks another that it goes with.
        DataError: nothing there, nothing readable, or too few identities or images.
    """
    _check_numbers(identities, images_per_identity, train_images)
    if validation_share is not None and (train_images is not None or not 0 < validation_share < 1):
        raise ConfigError(
            f"validation_share is {validation_share}. Give more than 0 and less than 1, and no "
            "train_images beside it."
        )
    sizes = {
        "batch_size": batch_size,
        "min_images": min_images,
        "image_size": image_size,
        "limit": limit,
    }
    for name, value in sizes.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}. Give 1 or more.")
    root = Path(path) / "train"
    if not root.is_dir():
        root = Path(path)
        if (root / "val").is_dir():  # it holds people to verify with, and would be one of them
            raise DataError(
                f"{root} holds val/ but no train/. Put the identities into {root}/train."
            )
    files, all_labels, names = list_images(root)
    labels = np.array(all_labels)
    generator = np.random.default_rng(derive_seed(seed, "identities"))
    chosen = _chosen_identities(
        root, labels, identities, images_per_identity, min_images, generator
    )
    images_of = members(labels)
    picked = np.concatenate(
        [generator.permutation(images_of[label])[:images_per_identity] for label in chosen]
    )
    train, val = _split(labels[picked], train_images, validation_share, seed)
    if limit is not None and limit < len(train):
        chosen = _within(labels[picked[train]], limit, derive_seed(seed, "limit"))
        train, val = (part[np.isin(labels[picked[part]], chosen)] for part in (train, val))
    if not len(val):
        raise DataError(
            f"{root} has no identity of two images to use. Add images to validate with."
        )
    shared = common_size([files[i] for i in picked])
    size = (image_size, image_size) if image_size else shared or FACE_SIZE
    in_memory = fits_in_memory(len(train) + len(val), channels, size)

    def loader(chosen_images: np.ndarray[Any, Any], batch: int, training: bool) -> Any:
        indices = np.sort(picked[chosen_images])
        part = [files[i] for i in indices]
        numbers = np.searchsorted(chosen, labels[indices])
        if not in_memory:
            return disk_loader(
                part,
                numbers.tolist(),
                channels,
                plain_transform(size, mean=FACE_MEAN, std=FACE_STD, train=training, pad=0),
                batch,
                train=training,
                size=size,
            )
        images = read_images(part, channels, size)
        return TensorLoader(
            images,
            torch.from_numpy(numbers),
            batch_size=batch,
            train=training,
            flip=training,
            mean=FACE_MEAN,
            std=FACE_STD,
        )

    return Data(
        train=loader(train, batch_size, True),
        val=loader(val, max(256, batch_size), False),
        name=f"identities:{path}",
        classes=tuple(names[label] for label in chosen),
        note=f"{len(chosen)} of {len(names)} identities; {len(train)} images train, {len(val)} validate.",
        mean=FACE_MEAN,
        std=FACE_STD,
    )


def _check_numbers(identities: int | None, images: int | None, train_images: int | None) -> None:
    if identities is not None and identities < 2:
        raise ConfigError(f"identities is {identities}. Give 2 or more to tell apart.")
    if images is not None and images < 2:
        raise ConfigError(f"images_per_identity is {images}. Give 2 or more: one has to validate.")
    if identities is not None and images is None:
        raise ConfigError("identities is given without images_per_identity. Give both or none.")
    if train_images is None:
        return
    if identities is None or images is None:
        raise ConfigError("train_images is given without identities. Give both or none.")
    if not 1 <= train_images < images:
        raise ConfigError(f"train_images is {train_images} of {images}. Give 1 to {images - 1}.")


def _chosen_identities(
    root: Path,
    labels: np.ndarray[Any, Any],
    identities: int | None,
    images: int | None,
    min_images: int,
    generator: np.random.Generator,
) -> np.ndarray[Any, Any]:
    """Return the labels of the identities to use, sorted."""
    least = min_images if identities is None else max(min_images, images or 0)
    able = np.flatnonzero(np.bincount(labels) >= least)
    wanted = 2 if identities is None else identities
    if len(able) < wanted:
        mend = (
            "Add some" if identities is None else "Ask for fewer identities or images, or add some"
        )
        raise DataError(
            f"{root} has {len(able)} identities of {least} images or more, {wanted} are wanted. {mend}."
        )
    return able if identities is None else np.sort(generator.choice(able, wanted, replace=False))


def _split(
    labels: np.ndarray[Any, Any], train_images: int | None, share: float | None, seed: int
) -> _Split:
    """Return indices (to train on, to validate with) of images that lie identity by identity."""
    if share is not None:
        return _share_of_all(labels, share, derive_seed(seed, "split"))
    if train_images is None:
        return stratified(labels, VALIDATION_SHARE, derive_seed(seed, "split"))
    # Each identity has equally many images here, and their order is already random.
    number = np.arange(len(labels)) % np.count_nonzero(labels == labels[0])
    return np.flatnonzero(number < train_images), np.flatnonzero(number >= train_images)


def _share_of_all(labels: np.ndarray[Any, Any], share: float, seed: int) -> _Split:
    """Return indices (to train on, to validate with); one image at least of each identity trains."""
    order = np.random.default_rng(seed).permutation(len(labels))
    _, stays = np.unique(labels[order], return_index=True)
    held = np.sort(np.delete(order, stays)[: max(1, round(share * len(labels)))])
    return np.setdiff1d(np.arange(len(labels)), held), held


def _within(labels: np.ndarray[Any, Any], limit: int, seed: int) -> np.ndarray[Any, Any]:
    """Return the labels, sorted, of identities drawn so that they have ``limit`` images at most."""
    identities, counts = np.unique(labels, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(identities))
    fitting = np.count_nonzero(np.cumsum(counts[order]) <= limit)
    return np.sort(identities[order[: max(2, fitting)]])
