"""What a search spends: images through forward and backward passes of the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from refiner.core.inputs import batch_size


@dataclass(slots=True)
class Usage:
    """Images that went through a network, forward, and backward as well."""

    forward: int = 0
    """Of every pass: training, norm statistics and scores."""
    backward: int = 0
    """Of those, the ones that were followed by a gradient."""

    @contextmanager
    def counting(self, network: nn.Module) -> Iterator[None]:
        """Count what goes through ``network`` inside."""

        def count(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            images = batch_size(args if args else kwargs)
            self.forward += images
            self.backward += images * torch.is_grad_enabled()

        hook = network.register_forward_pre_hook(count, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def __str__(self) -> str:
        """Return the usage in words."""
        return f"{self.forward:,} images forward, {self.backward:,} of them backward"
