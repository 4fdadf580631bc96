"""``torch.compile``: operations are fused and compiled for this machine."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from refiner.core.errors import ModelError, one_line
from refiner.core.inputs import ExampleInput, call, fresh, to_device_of
from refiner.core.surgery import copied
from refiner.runtimes.eager import Eager, run_once
from refiner.runtimes.runtime import Pass

_MANY = 10**6
"""Networks of one class that stay compiled. By default torch compiles eight and runs others in
eager mode, and their milliseconds would be wrong."""


class Compiled(Eager):
    """The network after ``torch.compile`` with its defaults, for the example's shapes."""

    name = "compile"

    def prepare(self, network: nn.Module, example: ExampleInput) -> Pass:
        """Compile a copy, run it once, and return a pass of it."""
        module = copied(network).to(self.device).eval()
        example = to_device_of(module, example)
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # no CUDA is no news
        compiled = torch.compile(module, dynamic=False)
        assert isinstance(compiled, nn.Module)
        try:
            with self.running():
                call(compiled, fresh(example))
        except Exception as error:
            raise ModelError(f"torch.compile cannot hold this model: {one_line(error)}") from error
        return partial(run_once, compiled, example)

    @contextmanager
    def running(self) -> Iterator[None]:
        """As in eager PyTorch, with any number of compiled networks."""
        from torch._dynamo import config

        limits = {"recompile_limit": _MANY, "accumulated_recompile_limit": _MANY}
        with config.patch(limits), super().running():
            yield
