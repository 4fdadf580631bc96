"""The parts of a data set: samples that are opened one at a time, and their labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from refiner.core.errors import DataError
from refiner.core.randomness import derive_seed
from refiner.data.split import Indices, stratified

VALIDATION_SHARE = 0.2
"""Share of the training samples that validates where there is no part for it."""
LEAST_VALIDATION = 1000
"""Images that a limit keeps to validate and to test: fewer can hardly compare networks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Images that are opened when they are needed, and their labels."""

    items: Sequence[Any]
    """What names an image: a path, or a number in a data set."""
    labels: Indices
    open: Callable[[Any], Image.Image]
    """Opens an image by its item; it may leave the pixels unread."""
    prefix: str = ""
    """What stands before an item in messages."""

    def __len__(self) -> int:
        return len(self.items)

    def at(self, indices: Indices) -> "Part":
        """Return the part with these samples alone."""
        return replace(
            self, items=[self.items[i] for i in indices.tolist()], labels=self.labels[indices]
        )

    def limited(self, limit: int | None, seed: int) -> "Part":
        """Return about ``limit`` samples, the same share of each class."""
        keeps = limit is None or limit >= len(self)
        return self if keeps else self.at(limited(self.labels, limit, seed))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """A data set of images with class labels."""

    name: str
    classes: tuple[str, ...]
    train: Part
    val: Part | None = None
    """None splits a share of the training samples off."""
    test: Part | None = None
    notes: tuple[str, ...] = ()
    """What a user should know, a sentence each."""
    flip: bool = True
    """Whether an image that is mirrored left to right stays in its class; a digit does not."""

    def split(self, limit: int | None, seed: int) -> tuple[Part, Part, Part | None, list[str]]:
        """Return the parts that train, validate and test, and what a user should know of them.

        Args:
            limit: keep about this many training samples, and as many, but at least
                ``LEAST_VALIDATION``, of the others.
            seed: fixes the split and the choice.

        Raises:
            DataError: there is no class of two samples to split.
        """
        notes: list[str] = []
        train, val, test = self.train, self.val, self.test
        if val is None:
            keep, held = stratified(train.labels, VALIDATION_SHARE, derive_seed(seed, "split"))
            if not len(held):
                raise DataError(
                    f"{self.name} has no class of two images to validate with. Add images, or a "
                    "validation part."
                )
            train, val = train.at(keep), train.at(held)
            if test is not None:
                notes.append(
                    f"{self.name} has no validation part: {len(val):,} of its training images "
                    "validate. No choice is made on the test part."
                )
        others = None if limit is None else max(limit, LEAST_VALIDATION)
        train, val = train.limited(limit, seed), val.limited(others, seed)
        return train, val, None if test is None else test.limited(others, seed), notes


def limited(labels: Indices, limit: int | None, seed: int) -> Indices:
    """Return the indices of about ``limit`` samples, the same share of each class."""
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    return stratified(labels, limit / len(labels), derive_seed(seed, "limit"))[1]
