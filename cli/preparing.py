"""The preprocessing that a command's weights were trained with, and what to say of it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from refiner.core.models import DRAWN, ModelSpec
from refiner.core.preprocessing import Preprocessing, preprocessing_of
from refiner.core.published import noted_preprocessing, published_preprocessing
from refiner.core.types import Provenance
from refiner.data.loaders import Data
from refiner.data.normalisation import FROM_DATA
from refiner.runs.run_folder import RunFolder

from .declared import Given


def kept_preprocessing(places: Iterable[str | None]) -> Preprocessing | None:
    """Return the preprocessing of the first run among places: its folder, or a file in that.

    Raises:
        RunError: a run's folder is damaged.
    """
    for place in places:
        path = Path(place or "").resolve()
        folder = path if path.is_dir() else path.parent
        if place and (folder / "config.json").is_file():
            provenance = RunFolder.open(folder).config().get("provenance")
            found = preprocessing_of(provenance if isinstance(provenance, dict) else None)
            if found is not None:
                return found
    return None


def loading(
    spec: ModelSpec, model: nn.Module, channels: int, places: Iterable[str | None], norm: str | None
) -> dict[str, Any]:
    """Return arguments of :func:`refiner.load_data`: what the model's weights expect.

    Args:
        spec: of the model.
        model: that it builds, with or without its weights.
        channels: of the model's input.
        places: that weights come from, which may be the folders of runs.
        norm: that the user named; ``model`` takes what the model's package notes in any case.
    """
    kept = kept_preprocessing(places)
    if kept is not None:
        return {"of_model": kept, "keep_size": True}
    find = noted_preprocessing if norm == "model" else published_preprocessing
    noted = getattr(model, "pretrained_cfg", None) or {}
    return {
        "of_model": find(spec, model, channels),
        "keep_size": bool(noted.get("fixed_input_size")) if hasattr(noted, "get") else False,
    }


def origin(spec: ModelSpec, command: Given, data: Data) -> Provenance:
    """Return what a run's folder keeps of where its network comes from."""
    made = Provenance(spec=spec.to_json(), command=command)
    if data.preprocessing is not None:
        made["preprocessing"] = data.preprocessing.to_json()
    return made


def preparing_notes(
    data: Data, spec: ModelSpec, places: Iterable[str | None], norm: str | None
) -> list[str]:
    """Return what a user should know of how pictures become inputs."""
    found = data.preprocessing
    if found is None:
        return []
    notes = [f"inputs: {found}"]
    weights = spec.weights_from()
    kept = kept_preprocessing(places)
    if found.source == FROM_DATA and weights != DRAWN and norm is None and kept is None:
        notes.append(
            "mean and std are those of the training images; give --mean and --std, or --norm, if "
            "the model was trained with others."
        )
    if kept is not None and kept.classes and kept.classes != data.classes:
        notes.append(
            f"the weights' run had the classes {_few(kept.classes)}, and this data has "
            f"{_few(data.classes)}."
        )
    return notes


def _few(names: tuple[str, ...]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
