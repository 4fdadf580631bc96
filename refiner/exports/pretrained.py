"""A refined model of transformers as a folder that ``save_pretrained`` writes.

The model's config keeps the architecture. So what a trainer saves comes back, too.
"""

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from refiner.core.errors import ModelError
from refiner.core.preprocessing import Preprocessing
from refiner.core.randomness import seeded
from refiner.core.transformers_models import (
    RESAMPLE,
    is_transformers,
    loaded,
    model_class,
    quiet,
    read_config,
)
from refiner.core.types import ARCHITECTURE_KEY
from refiner.space.architecture import Architecture
from refiner.space.remembered import architectures_in, remembered
from refiner.space.rewriting import rewrite

_PREPROCESSOR = "preprocessor_config.json"


def write_pretrained(
    model: nn.Module, folder: Path, preprocessing: Preprocessing | None = None
) -> None:
    """Write a refined model of transformers into a new folder, for :func:`from_pretrained`.

    Args:
        model: refined.
        folder: to write.
        preprocessing: how images become inputs, for the folder's preprocessor_config.json. None
            takes that of the folder that the original came from, if there is one.

    Raises:
        ModelError: the model is none of transformers, or was not refined.
    """
    if not is_transformers(model):
        raise ModelError(
            f"the model is a {type(model).__name__}, and this format holds models of transformers "
            "alone. Choose another format."
        )
    if not remembered(model):
        raise ModelError("the model was not refined. Save it with transformers: save_pretrained.")
    with quiet():
        model.save_pretrained(folder)
    origin = str(getattr(model.config, "_name_or_path", ""))
    beside = Path(origin) / _PREPROCESSOR
    if preprocessing is not None:
        text = json.dumps(_processor(preprocessing), indent=2)
        (folder / _PREPROCESSOR).write_text(text, encoding="utf-8")
    elif origin and beside.is_file():
        (folder / _PREPROCESSOR).write_bytes(beside.read_bytes())


def _processor(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return the settings of the processor that scales, cuts and normalises in this way."""
    height, width = preprocessing.size
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": min(preprocessing.resize or preprocessing.size)},
        "resample": RESAMPLE[preprocessing.interpolation],
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }


def from_pretrained(folder: str | PathLike[str]) -> nn.Module:
    """Return a refined model of transformers, on the CPU in eval mode.

    Args:
        folder: that ``refine export --format transformers`` wrote, or ``save_pretrained`` of the
            model that this function returned. Nothing is downloaded, and no code of it runs.

    Raises:
        ModelError: it holds no refined model, or transformers is not installed.
        ArchitectureError: its architecture is damaged, or that of another model.
    """
    path = Path(folder)
    document = read_config(path)
    if ARCHITECTURE_KEY not in document:
        raise ModelError(
            f"{folder} holds no refined model. Load it with transformers: from_pretrained."
        )
    architectures = architectures_in(document, str(path / "config.json"))
    made = model_class(document, str(folder))
    with seeded(0):
        model = loaded(_refined_class(made, architectures), path)
    model.__class__ = made
    whole: nn.Module = model.eval()
    return whole


def _refined_class(made: Any, architectures: Sequence[Architecture]) -> Any:
    """Return a class of models that are rewritten as soon as they are built.

    So transformers loads the weights by itself: it knows under which names it saves them. It goes
    by the name and the module of a class.
    """

    def build(self: Any, config: Any) -> None:
        delattr(config, ARCHITECTURE_KEY)  # rewriting notes them again
        made.__init__(self, config)
        for architecture in architectures:
            vars(self).update(vars(rewrite(self, architecture)))

    return type(made.__name__, (made,), {"__init__": build, "__module__": made.__module__})
