"""One process of several that computes for itself, as the main one does before a run begins."""

from collections.abc import Callable

import torch
from torch import nn

from refiner.training.devices import Devices, T


class Alone(Devices):
    """The devices of a run for work that a single process does: nothing waits for the others."""

    __slots__ = ()

    @classmethod
    def of(cls, devices: Devices) -> "Alone":
        """Return the devices of this process alone."""
        return cls(devices.accelerator, devices.channels_last)

    @property
    def processes(self) -> int:
        """One, so that nothing is averaged or wrapped."""
        return 1

    @property
    def is_main(self) -> bool:
        """Whether this process decides; it does."""
        return True

    def from_main(self, make: Callable[[], T]) -> T:
        """Return what ``make`` returns."""
        return make()

    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor, a sum of one part."""
        return tensor

    def average_buffers(self, module: nn.Module) -> None:
        """Leave the buffers as they are."""

    def average_gradients(self, module: nn.Module) -> None:
        """Leave the gradients as they are."""


def waits_for_others(module: nn.Module, devices: Devices) -> bool:
    """Return whether a module in train mode waits for the other processes of a run."""
    return devices.processes > 1 and any(
        isinstance(child, nn.SyncBatchNorm) for child in module.modules()
    )
