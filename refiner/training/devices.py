"""Devices: device, precision and processes of a run, through accelerate.

With several processes, each trains on its own share of every epoch, and the gradients are averaged.
All processes take the same decisions: strategies are deterministic, and scores and losses are
summed over the processes.
"""

import atexit
import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.data_loader import BatchSamplerShard
from accelerate.utils import broadcast_object_list, send_to_device
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, IterableDataset

from refiner.core.batches import is_empty
from refiner.core.errors import ConfigError, one_line
from refiner.core.inputs import ExampleInput
from refiner.core.notebook import NotebookBars, in_notebook
from refiner.core.progress import Lines, Progress, Silent
from refiner.core.types import Batch, Loader
from refiner.data.loaders import rebuilt, without_lasting_workers
from refiner.data.tensor_loader import TensorLoader
from refiner.training.buckets import replace_by
from refiner.training.layout import takes_channels_last, with_inputs_laid_out
from refiner.training.task import Task

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("no", "bf16")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Names of a norm's buffers. In train mode no output depends on them."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Devices:
    """An accelerator, and the few things that the loops use it for."""

    accelerator: Accelerator
    channels_last: bool = False
    """Whether inputs on a CPU are laid out with their channels last; see ``layout.py``."""

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "no") -> "Devices":
        """Return the devices for ``auto``, ``cpu`` or ``cuda``.

        ``auto`` is CUDA where there is such a device, else the CPU. Apple's GPU is refused: it has
        no float64, in which scores and fits are summed.

        Raises:
            ConfigError: the name is unknown, there is no such device, or the process already uses
                another one.
        """
        if device == "mps":
            raise ConfigError(
                "Apple's GPU (mps) has no float64, in which scores and fits are summed. "
                "Use the device cpu."
            )
        if device not in DEVICES:
            raise ConfigError(f"unknown device {device!r}. Choose one of: {', '.join(DEVICES)}.")
        if precision not in PRECISIONS:
            raise ConfigError(
                f"unknown precision {precision!r}. Choose one of: {', '.join(PRECISIONS)}."
            )
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("there is no CUDA device here. Use the device cpu or auto.")
        joined = torch.distributed.is_initialized()
        try:
            # Where it may choose, it takes any GPU that it knows.
            cpu = device == "cpu" or not torch.cuda.is_available()
            accelerator = Accelerator(cpu=cpu, mixed_precision=precision)
        except ValueError as error:
            raise ConfigError(
                "this process already uses another device or precision: "
                f"{one_line(error, 100)}. Start a new one."
            ) from error
        if torch.distributed.is_initialized() and not joined:
            atexit.register(accelerator.end_training)  # else its threads outlive the interpreter
        if accelerator.device.type == "cuda":
            torch.cuda.init()  # creates its generators, which `seeded` restores
        return cls(accelerator)

    def suited_to(
        self, model: nn.Module, example: ExampleInput, task: Task, loader: Loader
    ) -> "Devices":
        """Return these devices, with inputs laid out as :func:`takes_channels_last` says."""
        if self.device.type != "cpu":
            return self
        takes = torch.tensor(float(takes_channels_last(model, example, task, loader)))
        return replace(self, channels_last=float(self.summed(takes)) == self.processes)

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def precision(self) -> str:
        """One of ``PRECISIONS``."""
        return str(self.accelerator.mixed_precision)

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, the only one that writes."""
        return bool(self.accelerator.is_main_process)

    @property
    def processes(self) -> int:
        """Number of processes."""
        return int(self.accelerator.num_processes)

    def move(self, module: nn.Module) -> nn.Module:
        """Move ``module`` to the device, in the layout of :meth:`laid_out`, and return it."""
        module.to(self.device)
        if self.device.type != "cpu":
            for tensor in (*module.parameters(), *module.buffers()):
                tensor.data = self.laid_out(tensor.data)
        return module

    def laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor on the device; with four dimensions, it is channels last on a GPU."""
        tensor = tensor.to(self.device)
        if self.device.type == "cpu" or tensor.dim() != 4:
            return tensor
        return tensor.contiguous(memory_format=torch.channels_last)

    def place(self, module: nn.Module) -> nn.Module:
        """Move ``module`` as :meth:`move` does, and return the module that a training step calls.

        With several processes it is a wrapper that averages gradients. Call ``module`` elsewhere.
        The statistics of norms stay those of each process until :meth:`average_buffers`. Other
        buffers are sent from the main process before each step.
        """
        self.move(module)
        if self.processes == 1:
            return module
        with _statistics_left_out(module):
            # A path of a supernet gives most parameters no gradient.
            return DistributedDataParallel(module, find_unused_parameters=True)

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context that computes in the chosen precision."""
        context: AbstractContextManager[None] = self.accelerator.autocast()
        return context

    def held(self, loader: Loader) -> Loader:
        """Return a loader whose images are on the device, if it holds them all in one tensor.

        Loaders that are made of it share that tensor, so that a device holds it once.
        """
        return loader.to(self.device) if isinstance(loader, TensorLoader) else loader

    def loader(self, loader: Loader, *, even: bool = True) -> Loader:
        """Return a loader of this process's share of each epoch; ``loader`` is not changed.

        For a GPU, a DataLoader pins its batches, so that copies overlap with computing.

        Args:
            loader: batches.
            even: give each process the same number of batches, as training needs. Without it, each
                sample is given once, as validation needs.

        Raises:
            ConfigError: there are several processes and the loader cannot be split.
        """
        index = self.accelerator.process_index
        if isinstance(loader, TensorLoader):
            return loader.to(self.device).shard(index, self.processes)
        if isinstance(loader, DataLoader) and self.device.type == "cuda":
            loader = _pinned(loader)
        if self.processes == 1:
            return without_lasting_workers(loader) if isinstance(loader, DataLoader) else loader
        if (
            isinstance(loader, DataLoader)
            and loader.batch_sampler is not None
            and not isinstance(loader.dataset, IterableDataset)
        ):
            batches = len(loader.batch_sampler)  # type: ignore[arg-type]
            if not even and batches < self.processes:
                raise ConfigError(
                    f"a loader of {batches} batches leaves some of {self.processes} processes "
                    "without one. Give smaller batches, or start fewer processes."
                )
            part = BatchSamplerShard(loader.batch_sampler, self.processes, index, even_batches=even)
            return rebuilt(loader, loader.dataset, batch_sampler=part)
        raise ConfigError(
            f"a loader of type {type(loader).__name__} cannot be split over {self.processes} "
            "processes. Give a torch DataLoader of a data set that is not an IterableDataset."
        )

    def batches(self, loader: Iterable[Batch]) -> Iterable[Batch]:
        """Yield the loader's batches on the device, inputs laid out; empty ones are left out."""
        for batch in loader:
            if is_empty(batch):
                continue
            moved = send_to_device(batch, self.device, non_blocking=True)
            yield with_inputs_laid_out(moved) if self.channels_last else moved

    def from_main(self, make: Callable[[], T]) -> T:
        """Run ``make`` on the main process; return its result, or raise its error, on all."""
        outcome: list[T | Exception | None] = [None, None]
        if self.is_main:
            try:
                outcome[0] = make()
            except Exception as error:
                if self.processes == 1:
                    raise
                outcome[1] = error
        result, failure = broadcast_object_list(outcome)
        if failure is not None:
            raise failure
        made: T = result
        return made

    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes, added up on the run's device, on the tensor's own."""
        if self.processes == 1:
            return tensor.clone()
        total: torch.Tensor = self.accelerator.reduce(tensor.to(self.device), reduction="sum")
        return total.to(tensor.device)

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over all processes."""
        return self.summed(tensor) / self.processes

    def average_gradients(self, module: nn.Module) -> None:
        """Average the gradients of a module that was not placed over all processes.

        All processes need gradients for the same parameters.
        """
        if self.processes > 1:
            found = (parameter.grad for parameter in module.parameters())
            replace_by(self.mean, [gradient for gradient in found if gradient is not None])

    def average_buffers(self, module: nn.Module) -> None:
        """Average the real-valued buffers, such as norm statistics, over all processes."""
        if self.processes > 1:
            replace_by(self.mean, [b for b in module.buffers() if b.is_floating_point()])


@contextmanager
def _statistics_left_out(module: nn.Module) -> Iterator[None]:
    """Let a DistributedDataParallel that is made inside leave out the statistics of norms."""
    names = [n for n, _ in module.named_buffers() if n.rpartition(".")[2] in _STATISTICS]
    vars(module)["_ddp_params_and_buffers_to_ignore"] = names
    try:
        yield
    finally:
        del vars(module)["_ddp_params_and_buffers_to_ignore"]


def _pinned(loader: DataLoader[Batch]) -> DataLoader[Batch]:
    """Return a copy of a loader that puts its batches into pinned memory."""
    pinned = copy.copy(loader)
    pinned.pin_memory = True
    pinned._iterator = None  # the workers of the original are its own
    return pinned


def make_listener(progress: bool | Progress, devices: Devices) -> Progress:
    """Return the listener to a run's progress; only the main process shows any."""
    if not devices.is_main or progress is False:
        return Silent()
    if progress is True:
        return NotebookBars() if in_notebook() else Lines()
    return progress
