"""Which modules are convs and norms."""

import torch
from torch import nn

CONV_TYPES = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_CONV_TYPES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORM_TYPES = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def is_conv(module: nn.Module) -> bool:
    """Return whether ``module`` is a conv of torch or of a subclass, transposed ones included."""
    return isinstance(module, CONV_TYPES + TRANSPOSED_CONV_TYPES)


def is_norm(module: nn.Module) -> bool:
    """Return whether ``module`` is a norm of torch, a subclass, or named so (FrozenBatchNorm2d)."""
    if isinstance(module, _NORM_TYPES):
        return True
    return "norm" in type(module).__name__.lower() and not holds_conv(module)


def weight_of(conv: nn.Module) -> torch.Tensor:
    """Return the weight of a conv: outputs x inputs of a group x kernel."""
    weight = conv.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def squeezes(module: nn.Module) -> bool:
    """Return whether a module has two linear layers, from many features to few and back.

    So has the gate of squeeze-and-excitation.
    """
    linears = [part for part in module.modules() if isinstance(part, nn.Linear)]
    if len(linears) != 2:
        return False
    first, second = linears
    many, few = first.in_features, first.out_features
    return (second.out_features, second.in_features) == (many, few) and few < many


def holds_conv(module: nn.Module) -> bool:
    """Return whether ``module`` is a conv or has one below it."""
    return any(is_conv(child) for child in module.modules())
