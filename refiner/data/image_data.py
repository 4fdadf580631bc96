"""Loaders of an image set, with the preprocessing that suits the model."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from refiner.core.cpus import total_memory
from refiner.core.errors import ConfigError
from refiner.core.preprocessing import Preprocessing
from refiner.core.types import Loader
from refiner.data.folder_parts import copies_note
from refiner.data.image_files import Size, as_they_are, check_depth, common_size, read_all, sample
from refiner.data.image_loaders import disk_loader, fits_in_memory, memory_loader
from refiner.data.loaders import Data
from refiner.data.normalisation import Normalisation, measured
from refiner.data.parts import ImageSet, Part

_PHOTO_SIZE = (224, 224)
"""Size for photographs of different sizes; that of ImageNet."""
_MEASURED = 5000
"""Images in memory that mean and standard deviation are measured on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a data set is loaded."""

    batch_size: int
    channels: int
    """Of the model's input, 1 or 3."""
    image_size: int | None = None
    limit: int | None = None
    seed: int = 0
    normalisation: Normalisation = field(default_factory=Normalisation)
    of_model: Preprocessing | None = None
    """The preprocessing of the weights that the model starts from, where it is known."""
    keep_size: bool = False
    """Whether the model takes images of that size alone."""


def image_data(images: ImageSet, options: Options) -> Data:
    """Return the loaders of an image set.

    Raises:
        DataError: an image cannot be read, or there are too few.
        ConfigError: the model's normalisation was asked for, and is unknown.
    """
    train, val, test, split_notes = images.split(options.limit, options.seed)
    parts = {"validation": val, **({"test": test} if test is not None else {})}
    shared = common_size(train, *parts.values())
    check_depth(train)
    size, covers, way = _geometry(shared, options)
    _check_room(size, options)
    photos = covers != size or shared is None or shared[0] * size[1] != shared[1] * size[0]
    plain = _plain(size, covers, way, options.channels)
    every = len(train) + sum(map(len, parts.values()))
    in_memory = not photos and fits_in_memory(every, plain)
    pixels = read_all(train, plain) if in_memory else None
    prepared = with_scale(
        plain,
        lambda: read_all(sample(train), plain) if pixels is None else pixels,
        options,
        images.classes,
    )
    pad, flip = max(1, size[0] // 8), images.flip

    def loader(part: Part, training: bool) -> Loader:
        batch = options.batch_size if training else max(256, options.batch_size)
        if not in_memory:
            return disk_loader(
                part, prepared, batch, train=training, photos=photos, pad=pad, flip=flip
            )
        given = pixels if training else None
        return memory_loader(
            part, prepared, batch, train=training, pad=pad, flip=flip, images=given
        )

    return Data(
        train=loader(train, True),
        val=loader(val, False),
        test=None if test is None else loader(test, False),
        name=images.name,
        classes=images.classes,
        note="\n".join([*images.notes, *split_notes, *_copies(train, parts)]),
        mean=torch.tensor(prepared.mean),
        std=torch.tensor(prepared.std),
        preprocessing=prepared,
    )


def _geometry(shared: Size | None, options: Options) -> tuple[Size, Size, str]:
    """Return the size of an input, what an image is scaled to cover, and how it is scaled.

    The model's own size holds for photographs. Images that all have one smaller size keep it.
    """
    of_model, way = options.of_model, "bilinear"
    if of_model is not None:
        way = of_model.interpolation
    larger = of_model is not None and (
        shared is None or options.keep_size or min(shared) >= min(of_model.size)
    )
    if options.image_size is not None:
        size = (options.image_size, options.image_size)
    elif of_model is not None and larger:
        size = of_model.size
    else:
        size = shared or _PHOTO_SIZE
    same_shape = shared is not None and shared[0] * size[1] == shared[1] * size[0]
    if same_shape and shared is not None and (of_model is None or shared <= size):
        return size, size, way  # nothing has to be cut
    if of_model is None:
        side = round(max(size) * 256 / 224)
        return size, (side, side), way
    tall, wide = (
        max(round(size[i] * of_model.covers[i] / of_model.size[i]), size[i]) for i in (0, 1)
    )
    return size, (tall, wide), way


def _check_room(size: Size, options: Options) -> None:
    """Raise a ConfigError where a batch alone is larger than the memory of this machine."""
    batch = max(256, options.batch_size)
    needed = 4 * batch * options.channels * size[0] * size[1]
    there = total_memory()
    if there is not None and needed > there:
        raise ConfigError(
            f"a batch of {batch} images of {size[0]}x{size[1]} takes {needed / 1e9:,.0f} GB, and "
            f"this machine has {there / 1e9:,.0f} GB of memory. Give a smaller --image-size."
        )


def _plain(size: Size, covers: Size, way: str, channels: int) -> Preprocessing:
    return replace(as_they_are(channels, size), resize=covers, interpolation=way)


def with_scale(
    plain: Preprocessing,
    images: Callable[[], torch.Tensor],
    options: Options,
    classes: Iterable[str],
) -> Preprocessing:
    """Return a preprocessing with mean and standard deviation.

    Args:
        plain: the preprocessing without them.
        images: gives training images, uint8, N x C x H x W, if their own mean is needed.
        options: what the user and the model's weights say of the scale.
        classes: their names.
    """
    scale = options.normalisation.scale(plain.channels, options.of_model)
    if scale is None:
        given = images()
        scale = measured(given[:: max(1, len(given) // _MEASURED)])
    mean, std, source = scale
    return replace(plain, mean=mean, std=std, source=source, classes=tuple(classes))


def _copies(train: Part, parts: dict[str, Part]) -> list[str]:
    """Return notes on files that are both in the training part and in another."""
    if not isinstance(train.items[0], Path):
        return []
    return [
        note for name, part in parts.items() for note in copies_note(train.items, part.items, name)
    ]
