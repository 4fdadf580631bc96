"""Preprocessing: what is done to a picture before a network sees it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refiner.core.errors import RunError, one_line
from refiner.core.types import JsonDict

INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest", "box", "hamming")
"""Ways to scale a picture, by the names of Pillow's filters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a picture becomes an input: scaled, cut at its centre, and normalised."""

    mean: tuple[float, ...]
    """What is subtracted from each channel, on the scale 0 to 1."""
    std: tuple[float, ...]
    """What each channel is divided by, on the scale 0 to 1."""
    size: tuple[int, int]
    """Height and width of the input."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the outputs; empty if unknown."""
    source: str
    """Where mean and std come from, as a phrase: ``the training images``."""
    resize: tuple[int, int] | None = None
    """Height and width that a picture is scaled to cover before the cut; None means ``size``."""
    interpolation: str = "bilinear"
    """How it is scaled, one of ``INTERPOLATIONS``."""

    def __post_init__(self) -> None:
        channels = {len(self.mean), len(self.std)}
        numbers = (*self.mean, *self.std)
        if len(channels) != 1 or not all(map(math.isfinite, numbers)) or min(self.std) <= 0:
            raise ValueError("mean and std are not one number each per channel, std above 0")
        if min(self.size) < 1 or any(a < b for a, b in zip(self.covers, self.size, strict=True)):
            raise ValueError("resize is smaller than size, or size is below 1")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"there is no interpolation {self.interpolation!r}")

    @property
    def channels(self) -> int:
        """Number of channels of the input: 1 is grey, 3 is RGB."""
        return len(self.mean)

    @property
    def covers(self) -> tuple[int, int]:
        """Height and width that a picture is scaled to cover before the cut."""
        return self.size if self.resize is None else self.resize

    def __str__(self) -> str:
        height, width = self.size
        shape = f"{self.channels}x{height}x{width}"
        if self.covers != self.size:
            tall, wide = self.covers
            side = f"the shorter side at {tall}" if tall == wide else f"at least {tall}x{wide}"
            shape += f", cut from the centre with {side} ({self.interpolation})"
        mean, std = (",".join(f"{v:.4g}" for v in values) for values in (self.mean, self.std))
        return f"{shape}; mean {mean}; std {std}; from {self.source}"

    def to_json(self) -> JsonDict:
        """Return the fields as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> "Preprocessing":
        """Return what :meth:`to_json` gave.

        Raises:
            RunError: the document is none.
        """
        try:
            resize = document.get("resize")
            return cls(
                mean=_floats(document["mean"]),
                std=_floats(document["std"]),
                size=_size(document["size"]),
                classes=tuple(map(_text, document.get("classes", ()))),
                source=_text(document["source"]),
                resize=None if resize is None else _size(resize),
                interpolation=_text(document.get("interpolation", "bilinear")),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise RunError(
                f"the preprocessing that a run's folder keeps is damaged: {one_line(error, 100)}. "
                "Take that folder from its origin again."
            ) from error


def per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Return one number per channel: the given ones, or their mean for each."""
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels


def preprocessing_of(origin: Mapping[str, Any] | None) -> Preprocessing | None:
    """Return the preprocessing in a provenance or in an architecture's origin, if it has one.

    Raises:
        RunError: it is damaged.
    """
    document = (origin or {}).get("preprocessing")
    return None if document is None else Preprocessing.from_json(document)


def _floats(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list | tuple) or not values:
        raise TypeError("mean and std are lists of numbers")
    return tuple(float(value) for value in values)


def _size(values: Any) -> tuple[int, int]:
    height, width = values
    if type(height) is not int or type(width) is not int:
        raise TypeError("sizes are whole numbers")
    return height, width


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("names are text")
    return value
