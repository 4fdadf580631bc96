"""Which mean and standard deviation the pixels of a data set are normalised with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from refiner.core.errors import ConfigError
from refiner.core.preprocessing import Preprocessing, per_channel

Scale: TypeAlias = tuple[tuple[float, ...], tuple[float, ...], str]
"""Mean and standard deviation of each channel, on the scale 0 to 1, and where they come from."""
NAMED = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,), (0.5,)),
    "none": ((0.0,), (1.0,)),
    "raw": ((0.0,), (1 / 255,)),
}
"""Mean and deviation by name: ``half`` gives -1 to 1, ``none`` 0 to 1, ``raw`` 0 to 255."""
NORMS = (*NAMED, "data", "model")
"""All that ``norm`` can be."""
FROM_DATA = "the training images"
"""Source of a mean and a standard deviation that were measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """What a user said of mean and standard deviation; nothing means those of the model's weights.

    Raises:
        ConfigError: a value is unknown, out of its range, or lacks another.
    """

    norm: str | None = None
    """One of ``NORMS``."""
    mean: Sequence[float | str] | None = None
    """One number, or one per channel, on the scale 0 to 1."""
    std: Sequence[float | str] | None = None
    """The same for the standard deviation."""

    def __post_init__(self) -> None:
        if self.norm is not None and self.norm not in NORMS:
            raise ConfigError(f"unknown norm {self.norm!r}. Choose one of: {', '.join(NORMS)}.")
        if (self.mean is None) != (self.std is None):
            given, lacking = ("std", "mean") if self.mean is None else ("mean", "std")
            raise ConfigError(f"{given} is given and {lacking} is not. Give both.")
        if self.norm is not None and self.mean is not None:
            raise ConfigError("norm and mean both say how pixels are normalised. Give one of them.")
        self._own(3)

    @property
    def given(self) -> bool:
        """Whether the user said anything."""
        return self.norm is not None or self.mean is not None

    def scale(self, channels: int, of_model: Preprocessing | None) -> Scale | None:
        """Return mean, standard deviation and their source; None for those of the data.

        Args:
            channels: of the model's input.
            of_model: the preprocessing of the model's weights, where it is known.
        """
        own = self._own(channels)
        if own is not None:
            return own
        if self.norm in NAMED:
            mean, std = NAMED[self.norm]
            return per_channel(mean, channels), per_channel(std, channels), f"--norm {self.norm}"
        if self.norm == "model" and of_model is None:
            raise ConfigError(
                "norm is model, and nothing notes how this model's inputs are normalised. Give "
                "mean and std."
            )
        if of_model is None or self.norm == "data":
            return None
        return (
            per_channel(of_model.mean, channels),
            per_channel(of_model.std, channels),
            of_model.source,
        )

    def _own(self, channels: int) -> Scale | None:
        if self.mean is None or self.std is None:
            return None
        mean = _numbers("mean", self.mean, channels)
        std = _numbers("std", self.std, channels)
        if min(std) <= 0:
            raise ConfigError(
                f"std {_shown(std)} is not above 0. Give the deviation of each channel."
            )
        return mean, std, "--mean and --std"


def measured(images: torch.Tensor) -> Scale:
    """Return mean and standard deviation of uint8 images, N x C x H x W, to four digits."""
    values = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for pixels in images.unbind(1):  # counts take little memory, unlike all pixels as floats
        counts = torch.bincount(pixels.flatten(), minlength=256).double()
        centre = float((counts * values).sum() / counts.sum())
        variance = (counts * (values - centre).square()).sum() / (counts.sum() - 1).clamp(min=1)
        mean.append(round(centre, 4))
        std.append(max(round(float(variance.sqrt()), 4), 1e-3))
    return tuple(mean), tuple(std), FROM_DATA


def _numbers(name: str, given: Sequence[float | str], channels: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in given)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{name} {','.join(map(str, given))!r} is not one number, or three with commas."
        ) from None
    if len(numbers) not in (1, channels):
        wanted = "1 number" if channels == 1 else f"1 or {channels} numbers"
        raise ConfigError(f"{name} has {len(numbers)} numbers. Give {wanted}, one per channel.")
    if any(value > 1 for value in numbers):
        by_255 = _shown([value / 255 for value in numbers])
        raise ConfigError(
            f"{name} {_shown(numbers)} is above 1, and pixels are on the scale 0 to 1. Divide by "
            f"255: {by_255}."
        )
    if not all(0 <= value <= 1 for value in numbers):
        raise ConfigError(f"{name} {_shown(numbers)} is out of its range, 0 to 1.")
    return numbers if len(numbers) == channels else numbers * channels


def _shown(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
