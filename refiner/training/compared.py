"""What of a model and of its outputs is scored, and compared with a teacher's."""

from collections.abc import Mapping

import torch
from torch import nn


def main_output(output: object) -> object:
    """Return the main output of a model: the first of several, or the only one."""
    return outputs_of(output)[0]


def compared_output(task: object, output: object) -> object:
    """Return what of an output is compared with a teacher's: its main output.

    A task with a method ``compared(output)`` says itself what that is.
    """
    compared = getattr(task, "compared", None)
    return main_output(output) if compared is None else compared(output)


def compared_network(task: object, model: nn.Module) -> nn.Module:
    """Return the module whose outputs are compared with a teacher's: the model itself.

    A task with a method ``compared_network(model)`` says itself which part that is.
    """
    chosen = getattr(task, "compared_network", None)
    return model if chosen is None else chosen(model)


def uncompared_parts(task: object, model: nn.Module) -> tuple[str, ...]:
    """Return the names of modules that neither a comparison nor the score depends on.

    A search could not see what a swap in them costs. A task with a method ``uncompared(model)``
    names them.
    """
    named = getattr(task, "uncompared", None)
    return () if named is None else tuple(named(model))


def outputs_of(output: object) -> list[object]:
    """Return the main output of a model, then further ones of its kind (auxiliary heads)."""
    if isinstance(output, Mapping):  # torchvision's segmentation models, and transformers
        output = list(output.values())
    if isinstance(output, tuple | list) and output:
        return [output[0], *(o for o in output[1:] if _same_kind(o, output[0]))]
    return [output]


def _same_kind(first: object, second: object) -> bool:
    """Return whether two outputs are tensors of one rank for the same batch and classes."""
    if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor):
        return False
    return first.dim() == second.dim() and first.shape[:2] == second.shape[:2]
