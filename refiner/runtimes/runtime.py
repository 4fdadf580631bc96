"""What this tool asks of a runtime: to prepare a network, to run a pass, and to say what it is."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

import torch
from torch import nn

from refiner.core.inputs import ExampleInput

Pass: TypeAlias = Callable[[], object]
"""Runs one forward pass of a network on the input that it was prepared with."""


class Runtime(Protocol):
    """Something that runs networks, as they are deployed with it."""

    name: str
    """By which users choose it."""
    version: str
    """Of the package that it comes from."""
    precision: str
    """In which it computes: ``no`` for float32, or ``bf16``."""
    device: torch.device
    """Where passes run. If it is a GPU whose stream of torch they use, that stream is timed."""
    hardware: str
    """Name of the GPU, or of the CPU with the number of threads."""

    def prepare(self, network: nn.Module, example: ExampleInput) -> Pass:
        """Return what runs a forward pass of a copy of a network in eval mode.

        The batch is that of ``example``, and its values are what every pass computes on.

        Raises:
            ModelError: the runtime cannot hold the network.
        """
        ...

    def prepare_copies(self, network: nn.Module, example: ExampleInput, count: int) -> list[Pass]:
        """Return passes as :meth:`prepare` does, of as many copies, each in memory of its own.

        Raises:
            ModelError: the runtime cannot hold the network.
        """
        ...

    def running(self) -> AbstractContextManager[None]:
        """Return the context in which passes run."""
        ...
