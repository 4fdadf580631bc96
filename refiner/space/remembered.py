"""Refined models of Lightning and transformers remember their architectures as they are saved."""

import copy
import json
from collections.abc import Sequence
from typing import Any

from torch import nn

from refiner.core.errors import ArchitectureError
from refiner.core.lightning_modules import is_lightning
from refiner.core.transformers_models import is_transformers
from refiner.core.types import ARCHITECTURE_KEY, JsonDict
from refiner.space.architecture import Architecture

_HOOK = "on_save_checkpoint"
"""The method of a LightningModule that a Trainer calls for each checkpoint."""


class Remembered:
    """Stands for a module's ``on_save_checkpoint``: adds the architectures, and calls its own."""

    def __init__(self, module: nn.Module, architectures: tuple[Architecture, ...]) -> None:
        self.module, self.architectures = module, architectures

    def __call__(self, checkpoint: dict[str, Any]) -> None:
        """Add to a checkpoint how the convs of its module were replaced, in order."""
        getattr(type(self.module), _HOOK)(self.module, checkpoint)
        checkpoint[ARCHITECTURE_KEY] = _documents(self.architectures)


def remember(module: nn.Module, original: nn.Module, architecture: Architecture) -> None:
    """Let what a library saves of a module hold the architecture that it was rewritten to.

    That is a checkpoint of a LightningModule, and the config of a model of transformers. The
    architectures of earlier refinements, which ``original`` remembers, come first. Any other module
    stays as it is.
    """
    architectures = (*remembered(original), architecture)
    if is_lightning(module):
        vars(module)[_HOOK] = Remembered(module, architectures)
    elif is_transformers(module):
        named: Any = module
        named.config = copy.copy(named.config)
        setattr(named.config, ARCHITECTURE_KEY, _documents(architectures))


def remembered(module: nn.Module) -> tuple[Architecture, ...]:
    """Return the architectures that a module was rewritten to, one after the other."""
    if is_transformers(module):
        kept = getattr(module.config, ARCHITECTURE_KEY, [])
        return tuple(_read(kept, "the model's config"))
    hook = vars(module).get(_HOOK)
    return hook.architectures if isinstance(hook, Remembered) else ()


def architectures_in(document: dict[str, Any], path: str) -> list[Architecture]:
    """Return the architectures that a checkpoint or a config holds; ``path`` is for messages.

    Raises:
        ArchitectureError: they are damaged.
    """
    return _read(document.get(ARCHITECTURE_KEY, []), path)


def _documents(architectures: Sequence[Architecture]) -> list[JsonDict]:
    return [json.loads(each.to_json()) for each in architectures]


def _read(documents: Any, path: str) -> list[Architecture]:
    if not isinstance(documents, list):
        raise ArchitectureError(f"{path} holds a damaged architecture. Write it again.")
    return [Architecture.from_json(document, path) for document in documents]
