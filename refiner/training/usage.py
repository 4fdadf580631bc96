"""Usage: how many images go through forward and backward passes of a network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from refiner.core.batches import batch_size


@dataclass(slots=True)
class Usage:
    """Number of images that went through a network: a cost that does not depend on the device."""

    forward: int = 0
    """Images in forward passes: training, BN recalibration and evaluation."""
    backward: int = 0
    """Images among them whose forward pass recorded gradients for a backward pass."""

    @contextmanager
    def counting(self, network: nn.Module) -> Iterator[None]:
        """Count the images that go through ``network`` inside the context."""

        def count(_module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            images = batch_size(args if args else kwargs)
            self.forward += images
            self.backward += images * torch.is_grad_enabled()

        hook = network.register_forward_pre_hook(count, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def __str__(self) -> str:
        """Return both numbers as text."""
        return f"{self.forward:,} images forward, {self.backward:,} of them backward"
