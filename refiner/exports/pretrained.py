"""A refined model of transformers as a folder that ``save_pretrained`` writes.

The architecture is kept in the model's config. So a trainer that saves the model keeps it, too.
"""

import json
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from refiner.core.errors import ModelError
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.core.transformers_models import (
    REFINED,
    loaded,
    model_class,
    quiet,
    read_config,
    require_transformers,
)
from refiner.space.architecture import Architecture
from refiner.space.rewriting import rewrite

_PREPROCESSOR = "preprocessor_config.json"


def write_pretrained(model: nn.Module, architecture: Architecture, folder: Path) -> None:
    """Write a refined model of transformers into a new folder, for :func:`from_pretrained`.

    Args:
        model: refined.
        architecture: of it.
        folder: must not exist, or be empty.

    Raises:
        ModelError: the model is none of transformers, or does not come back as it was.
    """
    transformers = require_transformers()
    if not isinstance(model, transformers.PreTrainedModel):
        raise ModelError(
            f"the model is a {type(model).__name__}, and this format holds models of transformers "
            "alone. Choose another format."
        )
    work: Any = copied(model).cpu()
    setattr(work.config, REFINED, json.loads(architecture.to_json()))
    beside = Path(str(getattr(model.config, "_name_or_path", ""))) / _PREPROCESSOR
    with quiet():
        work.save_pretrained(folder)
    if beside.is_file():
        (folder / _PREPROCESSOR).write_bytes(beside.read_bytes())


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
    if REFINED not in document:
        raise ModelError(
            f"{folder} holds no refined model. Load it with transformers: from_pretrained."
        )
    architecture = Architecture.from_json(document[REFINED], path / "config.json")
    made = model_class(document, str(folder))
    with seeded(0):
        model = loaded(_refined_class(made, architecture), path)
    model.__class__ = made
    whole: nn.Module = model.eval()
    return whole


def _refined_class(made: Any, architecture: Architecture) -> Any:
    """Return a class of models that are rewritten as soon as they are built.

    So transformers loads the weights by itself: it knows under which names it saves them. It goes
    by the name and the module of a class.
    """

    def build(self: Any, config: Any) -> None:
        made.__init__(self, config)
        vars(self).update(vars(rewrite(self, architecture)))

    return type(made.__name__, (made,), {"__init__": build, "__module__": made.__module__})
