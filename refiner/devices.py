"""Where a run computes: device, precision and processes, through accelerate."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import DataLoader

from refiner.errors import ConfigError, one_line
from refiner.tensor_loader import TensorLoader

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("no", "bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Devices:
    """An accelerator and what the loops need of it."""

    accelerator: Accelerator

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "no") -> "Devices":
        """Return the devices for ``auto``, ``cpu`` or ``cuda``.

        Raises:
            ConfigError: unknown name, or no such device here.
        """
        if device not in DEVICES:
            raise ConfigError(f"unknown device {device!r}. Choose one of: {', '.join(DEVICES)}.")
        if precision not in PRECISIONS:
            raise ConfigError(
                f"unknown precision {precision!r}. Choose one of: {', '.join(PRECISIONS)}."
            )
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("there is no CUDA device here. Use --device cpu or auto.")
        # The paths of a supernet leave most parameters without a gradient in each step.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        try:
            accelerator = Accelerator(
                cpu=device == "cpu", mixed_precision=precision, kwargs_handlers=[unused]
            )
        except ValueError as error:
            raise ConfigError(
                f"this process computes with another device or precision already: {one_line(error, 100)}. "
                "Start a new one."
            ) from error
        return cls(accelerator)

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return bool(self.accelerator.is_main_process)

    def place(self, module: nn.Module) -> nn.Module:
        """Return ``module`` on the device, images last on a GPU, wrapped for several processes."""
        module = module.to(self.device)
        if self.device.type == "cuda":
            module = module.to(memory_format=torch.channels_last)
        placed: nn.Module = self.accelerator.prepare_model(module)
        return placed

    def release(self, placed: nn.Module) -> None:
        """Take back what :meth:`place` did to the module's ``forward`` (mixed precision)."""
        module = self.accelerator.unwrap_model(placed, keep_fp32_wrapper=False)
        # accelerate leaves the class's forward behind as an attribute bound to this module, which a
        # copy of the module would then call.
        if getattr(module.__dict__.get("forward"), "__func__", None) is type(module).forward:
            del module.__dict__["forward"]

    def loader(self, loader: Any) -> Any:
        """Return a loader that gives this process its share of each epoch."""
        processes = self.accelerator.num_processes
        if isinstance(loader, TensorLoader):
            return loader.to(self.device).shard(self.accelerator.process_index, processes)
        if processes == 1:
            return loader
        if isinstance(loader, DataLoader):
            return self.accelerator.prepare_data_loader(loader)
        raise ConfigError(
            f"a loader of type {type(loader).__name__} cannot be split over {processes} processes. "
            "Give a torch DataLoader."
        )

    def batches(self, loader: Iterable[Any]) -> Iterable[Any]:
        """Yield the loader's batches, their tensors on the device."""
        for batch in loader:
            yield send_to_device(batch, self.device, non_blocking=True)

    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes."""
        total: torch.Tensor = self.accelerator.reduce(tensor, reduction="sum")
        return total
