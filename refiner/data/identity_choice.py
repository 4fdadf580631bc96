"""Choose identities and their images: all of them, or a proxy task drawn at random.

The proxy task is that of the paper's section 4.1.1: 4,000 identities of 40 images each, drawn at
random, 36 of them to train on and 4 to validate with.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refiner.core.errors import ConfigError, DataError
from refiner.core.randomness import derive_seed
from refiner.data.parts import VALIDATION_SHARE
from refiner.data.split import Indices, members, stratified


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnIdentities:
    """Identities that were drawn, and their images; all but ``picked`` are sorted."""

    identities: Indices
    """Their labels."""
    picked: Indices
    """Indices of images before ``limit`` left some out, identity by identity."""
    train: Indices
    """Indices of the images to train on."""
    val: Indices
    """Indices of the images to validate with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityChoice:
    """Which identities and images to use; fields as in :func:`load_identities`.

    Raises:
        ConfigError: a number is out of its range, or lacks another number that it needs.
    """

    identities: int | None
    images: int | None
    """Images per identity."""
    train_images: int | None
    min_images: int
    validation_share: float | None
    limit: int | None
    seed: int

    def __post_init__(self) -> None:
        check_positive(min_images=self.min_images, limit=self.limit)
        _check_numbers(self.identities, self.images, self.train_images)
        share = self.validation_share
        if share is not None and (self.train_images is not None or not 0 < share < 1):
            raise ConfigError(
                f"validation_share is {share}. Give more than 0 and less than 1, and no "
                "train_images beside it."
            )

    def draw(self, root: Path, labels: Indices) -> DrawnIdentities:
        """Draw identities and images.

        Args:
            root: folder of the images, for messages.
            labels: identity of each image, N.

        Raises:
            DataError: there are too few identities or images.
        """
        generator = np.random.default_rng(derive_seed(self.seed, "identities"))
        chosen = self._chosen(root, labels, generator)
        images_of = members(labels)
        picked = np.concatenate(
            [generator.permutation(images_of[label])[: self.images] for label in chosen]
        )
        train, val = self._split(labels[picked])
        if self.limit is not None and self.limit < len(train):
            chosen = _within(labels[picked[train]], self.limit, derive_seed(self.seed, "limit"))
            train, val = (part[np.isin(labels[picked[part]], chosen)] for part in (train, val))
        if not len(val):
            raise DataError(
                f"{root} has no identity of two images to use. Add images to validate with."
            )
        return DrawnIdentities(
            identities=chosen, picked=picked, train=np.sort(picked[train]), val=np.sort(picked[val])
        )

    def _chosen(self, root: Path, labels: Indices, generator: np.random.Generator) -> Indices:
        """Return the labels of the identities to use, sorted."""
        least, wanted, advice = self.min_images, 2, "Add some"
        if self.identities is not None:
            least, wanted = max(self.min_images, self.images or 0), self.identities
            advice = "Ask for fewer identities or images, or add some"
        able = np.flatnonzero(np.bincount(labels) >= least)
        if len(able) < wanted:
            raise DataError(
                f"{root} has {len(able)} identities of {least} images or more, "
                f"{wanted} are wanted. {advice}."
            )
        if self.identities is None:
            return able
        return np.sort(generator.choice(able, wanted, replace=False))

    def _split(self, labels: Indices) -> tuple[Indices, Indices]:
        """Return indices (to train on, to validate with) of images sorted by identity."""
        if self.validation_share is not None:
            return _share_of_all(labels, self.validation_share, derive_seed(self.seed, "split"))
        if self.train_images is None:
            return stratified(labels, VALIDATION_SHARE, derive_seed(self.seed, "split"))
        # Each identity has equally many images here, and their order is already random.
        number = np.arange(len(labels)) % np.count_nonzero(labels == labels[0])
        return np.flatnonzero(number < self.train_images), np.flatnonzero(
            number >= self.train_images
        )


def check_positive(**numbers: int | None) -> None:
    """Raise a ConfigError for a number below 1; None is left out."""
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}. Give 1 or more.")


def _check_numbers(identities: int | None, images: int | None, train_images: int | None) -> None:
    if identities is not None and identities < 2:
        raise ConfigError(f"identities is {identities}. Give 2 or more.")
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


def _share_of_all(labels: Indices, share: float, seed: int) -> tuple[Indices, Indices]:
    """Return indices (to train on, to validate with); each identity keeps an image to train on."""
    order = np.random.default_rng(seed).permutation(len(labels))
    _, stays = np.unique(labels[order], return_index=True)
    held = np.sort(np.delete(order, stays)[: max(1, round(share * len(labels)))])
    return np.setdiff1d(np.arange(len(labels)), held), held


def _within(labels: Indices, limit: int, seed: int) -> Indices:
    """Return the labels, sorted, of random identities that have at most ``limit`` images."""
    identities, counts = np.unique(labels, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(identities))
    fitting = np.count_nonzero(np.cumsum(counts[order]) <= limit)
    return np.sort(identities[order[: max(2, fitting)]])
