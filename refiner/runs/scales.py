"""Images on other scales: what a network may have been trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from refiner.runs.look import Change, Scale

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


NORMS = {
    "scaled from 0 to 1": "none",
    "scaled from 0 to 255": "raw",
    "scaled from -1 to 1": "half",
    "normalised by ImageNet's mean and std": "imagenet",
}
"""What the command line calls these scales."""


def other_scales(scale: Scale, preprocessing: Mapping[str, Any]) -> dict[str, Change]:
    """Return other scales of images, by what they are called; each takes N x C x H x W images.

    Args:
        scale: of the images as they come.
        preprocessing: holds their ``mean`` and ``std``, on the scale 0 to 1, where these are known.
    """
    channels = len(scale.low)
    if channels not in (1, 3):
        return {}
    unit = _to_unit(scale, preprocessing)
    mean, std = (_columns(_IMAGENET[i][:channels]) for i in (0, 1))
    forms: dict[str, Change] = {
        "scaled from 0 to 1": unit,
        "scaled from 0 to 255": lambda x: 255 * unit(x),
        "scaled from -1 to 1": lambda x: 2 * unit(x) - 1,
        "normalised by ImageNet's mean and std": lambda x: (unit(x) - _on(mean, x)) / _on(std, x),
    }
    ends = torch.stack([scale.low, scale.high])[..., None, None].float()
    forms = {
        form: change
        for form, change in forms.items()
        if not torch.allclose(change(ends), ends, atol=1e-3)
    }
    if channels == 3:
        forms["with the channels in the order blue, green, red"] = lambda x: x.flip(1)
    return forms


def _to_unit(scale: Scale, preprocessing: Mapping[str, Any]) -> Change:
    """Return the function that scales images from 0 to 1, as well as is known."""
    low, high = float(scale.low.min()), float(scale.high.max())
    mean, std = preprocessing.get("mean"), preprocessing.get("std")
    if mean and std and len(mean) == len(std) == len(scale.low):
        centre, width = _columns(mean), _columns(std)
        return lambda x: x * _on(width, x) + _on(centre, x)
    if low >= 0 and high <= 1 + 1e-6:
        return lambda x: x
    if low >= 0 and high <= 255:
        return lambda x: x / 255
    if low >= -1 - 1e-6 and high <= 1 + 1e-6:
        return lambda x: (x + 1) / 2
    bottom, span = scale.low.float(), (scale.high - scale.low).float().clamp(min=1e-12)
    return lambda x: (x - _on(bottom[:, None, None], x)) / _on(span[:, None, None], x)


def _columns(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values)[:, None, None]


def _on(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return values.to(x.device, x.dtype)
