"""The preprocessing that published weights were trained with, as timm and torchvision note it."""

import contextlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from refiner.core.models import ModelSpec, is_trained
from refiner.core.preprocessing import INTERPOLATIONS, Preprocessing, per_channel


def published_preprocessing(
    spec: ModelSpec, model: nn.Module, channels: int
) -> Preprocessing | None:
    """Return the preprocessing of the published weights that a model starts from.

    None means that it starts from no published weights, or that these note none.

    Args:
        spec: of the model.
        model: that it builds, with or without its weights.
        channels: of the model's input; one channel takes the means over the published ones.
    """
    if not uses_published_weights(spec):
        return None
    return noted_preprocessing(spec, model, channels)


def uses_published_weights(spec: ModelSpec) -> bool:
    """Return whether a model starts from weights that a library published or saved."""
    if is_trained(spec.source):
        return spec.weights is None
    given = (spec.arguments.get("pretrained"), spec.arguments.get("weights"))
    return spec.weights is None and (spec.pretrained or any(given))


def noted_preprocessing(spec: ModelSpec, model: nn.Module, channels: int) -> Preprocessing | None:
    """Return the preprocessing that timm or torchvision notes for a model, used or not."""
    if spec.source.startswith("torchvision:"):
        return _of_torchvision(spec, channels)
    noted = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    library = spec.source.partition(":")[0]
    return _of_timm(noted, channels, library) if isinstance(noted, Mapping) else None


def _of_timm(noted: Mapping[str, Any], channels: int, library: str) -> Preprocessing | None:
    with contextlib.suppress(KeyError, TypeError, ValueError):
        height, width = (int(side) for side in noted["input_size"][-2:])
        share = float(noted.get("crop_pct") or 0.875)
        return Preprocessing(
            mean=per_channel(list(map(float, noted["mean"])), channels),
            std=per_channel(list(map(float, noted["std"])), channels),
            size=(height, width),
            resize=(max(height, int(height / share)), max(width, int(width / share))),
            interpolation=_known(noted.get("interpolation")),
            source=f"the pretrained weights ({library})",
        )
    return None


def _of_torchvision(spec: ModelSpec, channels: int) -> Preprocessing | None:
    from torchvision.models import get_model_weights

    name = spec.source.partition(":")[2]
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        published: Any = get_model_weights(name)
        chosen = spec.arguments.get("weights")
        weights = published[str(chosen).rpartition(".")[2]] if chosen else published.DEFAULT
        transforms = weights.transforms()
        cut, scaled = _square(transforms.crop_size), _square(transforms.resize_size)
        return Preprocessing(
            mean=per_channel(list(map(float, transforms.mean)), channels),
            std=per_channel(list(map(float, transforms.std)), channels),
            size=cut,
            resize=(max(cut[0], scaled[0]), max(cut[1], scaled[1])),
            interpolation=_known(transforms.interpolation.value),
            source="the pretrained weights (torchvision)",
        )
    return None


def _square(sides: Any) -> tuple[int, int]:
    height, width = (sides[0], sides[-1]) if isinstance(sides, list | tuple) else (sides, sides)
    return int(height), int(width)


def _known(interpolation: Any) -> str:
    return interpolation if interpolation in INTERPOLATIONS else "bilinear"
