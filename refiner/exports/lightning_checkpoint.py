"""A refined LightningModule as a checkpoint: weights, hyperparameters and architecture, no code.

:func:`load_lightning` builds the user's class, replaces its convs and loads the weights. It reads
what :func:`write_lightning` wrote, and what a ``Trainer`` saved after it went on training.
"""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from refiner.core.errors import ModelError, one_line
from refiner.core.lightning_modules import (
    base_of,
    detached,
    is_lightning,
    plain,
    stored_arguments,
    version_of,
)
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.core.weight_files import read_weights
from refiner.core.weights import load_weights
from refiner.space.remembered import architectures_in
from refiner.space.rewriting import rewrite


def write_lightning(model: nn.Module, path: Path) -> list[str]:
    """Write a checkpoint, and return the arguments of the class that it cannot hold.

    Raises:
        ModelError: the model is no LightningModule.
    """
    if not is_lightning(model):
        raise ModelError(
            f"the model is a {type(model).__name__}, and this format holds LightningModules alone. "
            "Choose another format."
        )
    module: Any = detached(model)
    checkpoint = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": version_of(module),
        "state_dict": module.state_dict(),
        "hparams_name": getattr(module, "_hparams_name", None) or "kwargs",
        "hyper_parameters": plain(module.hparams),
    }
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    held = stored_arguments(type(module), checkpoint)
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, each in inspect.signature(type(module)).parameters.items()
        if each.default is each.empty and each.kind not in several and name not in held
    ]


def written_and_loaded(model: nn.Module, path: Path) -> tuple[nn.Module, str]:
    """Write a checkpoint; return the module that it gives, in eval mode, and how to load it."""
    missing = write_lightning(model, path)
    how = "checkpoint for refiner.load_lightning"
    if not missing:
        return load_lightning(path, type(model)).eval(), how
    loaded = copied(model).eval()  # its class cannot be built here
    load_weights(loaded, path)
    return loaded, f"{how}(FILE, CLASS, {', '.join(f'{name}=...' for name in missing)})"


def load_lightning(
    path: str | os.PathLike[str], module: type[nn.Module], **arguments: Any
) -> nn.Module:
    """Return a refined LightningModule from its checkpoint, on the CPU in train mode.

    The file comes from ``refine export DIR --format lightning``, ``Result.export`` or a ``Trainer``
    that trained a refined module. It is data: nothing in it is run.

    Args:
        path: of the checkpoint.
        module: the user's class, as before the refinement.
        **arguments: of the class, beside the hyperparameters in the file; these here win.

    Raises:
        ArchitectureError: the file was made for another class.
        ModelError: it is missing or damaged, or an argument of the class is.
    """
    if not isinstance(module, type) or base_of(module) is None:
        raise ModelError(f"{module!r:.80} is no class of a LightningModule. Give your own class.")
    content = read_weights(Path(path))
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise ModelError(f"{path} is no checkpoint of Lightning. Name a .ckpt file.")
    network: Any = _built(module, {**stored_arguments(module, content), **arguments})
    for architecture in architectures_in(content, os.fspath(path)):
        network = rewrite(network, architecture)
    network.on_load_checkpoint(content)
    try:
        network.load_state_dict(state, strict=network.strict_loading)
    except RuntimeError as error:
        raise ModelError(
            f"the weights of {path} do not fit {module.__name__}: {one_line(error, 200)}. Give the "
            "class and the arguments that the module was made with."
        ) from error
    trained: nn.Module = network.train()
    return trained


def _built(kind: type[nn.Module], arguments: dict[str, Any]) -> nn.Module:
    try:
        with seeded(0):
            return kind(**arguments)
    except Exception as error:
        raise ModelError(
            f"{kind.__name__} cannot be built: {one_line(error)}. Give what the file does not "
            "hold: load_lightning(FILE, CLASS, NAME=VALUE)."
        ) from error
