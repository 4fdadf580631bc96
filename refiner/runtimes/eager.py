"""Eager PyTorch: each operation by itself, with norms and activations as passes of their own.

With precision bf16 the passes run under autocast, which casts the weights once, in the warm-up
rounds. In torch's inference mode it would cast them in each pass.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn

from refiner.core.inputs import ExampleInput, call, fresh, to_device_of
from refiner.core.surgery import copied
from refiner.runtimes.hardware import hardware_name, torch_threads
from refiner.runtimes.runtime import Pass


class Eager:
    """The network as its own code runs it.

    Args:
        device: where passes run.
        precision: ``no``, or ``bf16`` for autocast.
        threads: most CPU threads of a pass.
    """

    name = "eager"

    def __init__(self, device: torch.device, precision: str, threads: int) -> None:
        self.device, self.precision, self.threads = device, precision, threads
        self.hardware = hardware_name(device, threads)
        self.version = str(torch.__version__)

    def prepare(self, network: nn.Module, example: ExampleInput) -> Pass:
        """Return a pass of a copy, on the device and in eval mode."""
        module = copied(network).to(self.device).eval()
        if self.device.type == "cuda":  # as a run lays its networks out there
            module = module.to(memory_format=torch.channels_last)
        for parameter in module.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_()  # autocast remembers the casts of no others
        return partial(run_once, module, to_device_of(module, example))

    def prepare_copies(self, network: nn.Module, example: ExampleInput, count: int) -> list[Pass]:
        """Return passes of so many copies."""
        return [self.prepare(network, example) for _ in range(count)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Set threads and autocast; gradients are off."""
        with ExitStack() as stack:
            stack.enter_context(torch_threads(self.threads))
            stack.enter_context(torch.no_grad())
            if self.precision == "bf16":
                stack.enter_context(torch.autocast(self.device.type, torch.bfloat16))
            yield


def run_once(module: nn.Module, example: ExampleInput) -> None:
    """Run a pass on a copy of an input, which the network may write into."""
    call(module, fresh(example))
