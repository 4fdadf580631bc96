"""Folders of identities, to train embeddings on; :mod:`refiner.data.identity_choice` draws them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from refiner.core.errors import DataError
from refiner.core.preprocessing import Preprocessing
from refiner.core.types import Loader
from refiner.data.class_folders import list_images
from refiner.data.identity_choice import IdentityChoice, check_positive
from refiner.data.image_data import Options, with_scale
from refiner.data.image_files import Size, as_they_are, common_size, read_all, sample
from refiner.data.image_loaders import disk_loader, fits_in_memory, memory_loader
from refiner.data.loaders import Data
from refiner.data.normalisation import Normalisation
from refiner.data.parts import Part
from refiner.data.split import Indices

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
    normalisation: Normalisation | None = None,
    of_model: Preprocessing | None = None,
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
        normalisation: of the pixels; by default ArcFace's, -1 to 1.
        of_model: the preprocessing of the weights that the model starts from.

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
    options = Options(
        batch_size=batch_size,
        channels=channels,
        image_size=image_size,
        normalisation=normalisation or Normalisation(),
        of_model=of_model,
    )
    return _loaded(Path(path), choice, options)


def _loaded(path: Path, choice: IdentityChoice, options: Options) -> Data:
    root = _root(path)
    listing = list_images(root)
    files, names, labels = listing.files, listing.classes, np.array(listing.labels)
    drawn = choice.draw(root, labels)
    classes = tuple(names[label] for label in drawn.identities)

    def part(images: Indices) -> Part:
        numbers = np.searchsorted(drawn.identities, labels[images])
        return Part(items=[files[i] for i in images], labels=numbers, open=Image.open)

    train, val = part(drawn.train), part(drawn.val)
    size = _size(common_size(part(drawn.picked)), options)
    prepared = _prepared(train, size, options, classes)
    in_memory = fits_in_memory(len(train) + len(val), prepared)

    def loader(images: Part, training: bool) -> Loader:
        batch = options.batch_size if training else max(256, options.batch_size)
        if in_memory:
            return memory_loader(images, prepared, batch, train=training, flip=training)
        return disk_loader(images, prepared, batch, train=training, photos=False)

    note = f"{len(classes)} of {len(names)} identities; {len(train)} images train, "
    note += f"{len(val)} validate."
    return Data(
        train=loader(train, True),
        val=loader(val, False),
        name=f"identities:{path}",
        classes=classes,
        note="\n".join([note, *listing.notes(root)]),
        mean=torch.tensor(prepared.mean),
        std=torch.tensor(prepared.std),
        preprocessing=prepared,
    )


def _size(shared: Size | None, options: Options) -> Size:
    if options.image_size is not None:
        return options.image_size, options.image_size
    return shared or FACE_SIZE


def _prepared(train: Part, size: Size, options: Options, classes: tuple[str, ...]) -> Preprocessing:
    """Return the preprocessing: ArcFace's scale, unless the user or the weights say another."""
    plain = as_they_are(options.channels, size)
    if options.of_model is None and not options.normalisation.given:
        mean, std = (tuple(v.tolist()) * options.channels for v in (FACE_MEAN, FACE_STD))
        return replace(plain, mean=mean, std=std, source="ArcFace", classes=classes)
    return with_scale(plain, lambda: read_all(sample(train), plain), options, classes)


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
