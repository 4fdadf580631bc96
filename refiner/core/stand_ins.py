"""What stands in for a conv answers for its hyperparameters.

A forward may read them, to pad its input as TensorFlow does for example. They are those of the conv
that is replaced: the model pads for its window, and the candidate keeps its output size. There is
no weight to read.
"""

from typing import Any

from torch import nn

HYPERPARAMETERS = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "padding_mode",
)
"""Of torch's convs."""


class StandIn(nn.Module):
    """A module with the hyperparameters of the one that :meth:`stands_for` returns."""

    def stands_for(self) -> nn.Module:
        """Return the module that answers."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        """Return a parameter, buffer or child, or a hyperparameter."""
        if name in HYPERPARAMETERS:
            return getattr(self.stands_for(), name)
        return super().__getattr__(name)


def describe_as(module: nn.Module, conv: nn.Module, in_channels: int, out_channels: int) -> None:
    """Give a module that replaces a conv its hyperparameters, those that it lacks.

    Args:
        module: the replacement.
        conv: the original.
        in_channels: of the replacement.
        out_channels: of the replacement.
    """
    own = {"in_channels": in_channels, "out_channels": out_channels}
    for name in HYPERPARAMETERS:
        if not hasattr(module, name):
            setattr(module, name, own.get(name, getattr(conv, name)))


def same_window(module: nn.Module, conv: nn.Module) -> bool:
    """Return whether a module answers for the same window as a conv, which a model pads for."""
    window = ["kernel_size", "stride", "dilation"]
    if not isinstance(conv.padding, str):  # as "same", it says no number that a model could read
        window.append("padding")
    return all(_each(module, name) == _each(conv, name) for name in window)


def _each(module: nn.Module, name: str) -> object:
    """Return a hyperparameter, a number for all dimensions as one."""
    value = getattr(module, name)
    if isinstance(value, tuple | list) and len(set(value)) == 1:
        return value[0]
    return value
