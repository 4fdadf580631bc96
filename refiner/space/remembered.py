"""A refined LightningModule remembers its architectures, so that its checkpoints hold them."""

import json
from typing import Any

from torch import nn

from refiner.core.errors import ArchitectureError
from refiner.core.lightning_modules import ARCHITECTURE_KEY, is_lightning
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
        checkpoint[ARCHITECTURE_KEY] = [each.to_json() for each in self.architectures]


def remember(module: nn.Module, original: nn.Module, architecture: Architecture) -> None:
    """Let the checkpoints of a LightningModule hold the architecture that it was rewritten to.

    Those of earlier refinements, which ``original`` remembers, come first. Any other module stays
    as it is.
    """
    if is_lightning(module):
        vars(module)[_HOOK] = Remembered(module, (*remembered(original), architecture))


def remembered(module: nn.Module) -> tuple[Architecture, ...]:
    """Return the architectures that a module was rewritten to, one after the other."""
    hook = vars(module).get(_HOOK)
    return hook.architectures if isinstance(hook, Remembered) else ()


def architectures_in(checkpoint: dict[str, Any], path: str) -> list[Architecture]:
    """Return the architectures that a checkpoint holds; ``path`` is for messages.

    Raises:
        ArchitectureError: they are damaged.
    """
    kept = checkpoint.get(ARCHITECTURE_KEY, [])
    try:
        documents = [json.loads(text) for text in kept]
    except (TypeError, ValueError) as error:
        raise ArchitectureError(f"{path} holds a damaged architecture. Write it again.") from error
    return [Architecture.from_document(document, path) for document in documents]
