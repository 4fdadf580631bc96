"""What onnxruntime and OpenVINO share: both compile an ONNX program and run it on arrays."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from refiner.core.contents import tensors_in
from refiner.core.errors import ModelError, one_line
from refiner.core.inputs import ExampleInput
from refiner.runtimes.onnx_program import onnx_program
from refiner.runtimes.runtime import Pass

Array = np.ndarray[Any, Any]
Compiled = tuple[list[str], Callable[[Mapping[str, Array]], Sequence[Array]]]
"""The names of a program's inputs, and what runs it on them."""


class OnnxBased(ABC):
    """A runtime of ONNX programs; passes run on arrays of the CPU.

    Args:
        title: the runtime's name, for people.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self.device = torch.device("cpu")  # a pass returns when it has ended

    def prepare(self, network: nn.Module, example: ExampleInput) -> Pass:
        """Return a pass of a network as an ONNX program."""
        return self.prepare_copies(network, example, 1)[0]

    def prepare_copies(self, network: nn.Module, example: ExampleInput, count: int) -> list[Pass]:
        """Return passes of a network that is made an ONNX program once and compiled each time."""
        program, inputs = onnx_program(network, example)
        return [self.pass_of(program, inputs) for _ in range(count)]

    def pass_of(self, program: bytes, inputs: Mapping[str, torch.Tensor]) -> Pass:
        """Return a pass of a program, which may leave inputs out.

        Raises:
            ModelError: the runtime cannot hold or run it.
        """
        names, run = self._compile(program)
        if not set(names) <= inputs.keys():
            raise ModelError("the inputs of the ONNX program are not those of the model.")
        return self._first(partial(run, {name: _array(inputs[name]) for name in names}))

    def pass_of_file(self, file: Path, example: ExampleInput) -> Pass:
        """Return a pass of an ONNX file on the tensors of an input, in their order.

        Raises:
            ModelError: the runtime cannot hold or run it.
        """
        names, run = self._compile(file.read_bytes())
        tensors = tensors_in(example)
        if len(names) != len(tensors):
            raise ModelError("the inputs of the ONNX program are not those of the model.")
        arrays = map(_array, tensors)
        return self._first(partial(run, dict(zip(names, arrays, strict=True))))

    def program(self, file: Path) -> Callable[[list[torch.Tensor]], list[torch.Tensor]]:
        """Return what runs an ONNX file on tensors, in the order of its inputs.

        Raises:
            ModelError: the runtime cannot hold it.
        """
        names, run = self._compile(file.read_bytes())

        def run_tensors(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
            outputs = run(dict(zip(names, map(_array, tensors), strict=True)))
            return [torch.from_numpy(output) for output in outputs]

        return run_tensors

    def running(self) -> AbstractContextManager[None]:
        """Return an empty context."""
        return nullcontext()

    def _compile(self, program: bytes) -> Compiled:
        try:
            return self.compiled(program)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{self._title} cannot hold this model: {one_line(error)}") from error

    def _first(self, one: Pass) -> Pass:
        """Return a pass after its first run."""
        try:
            one()
        except Exception as error:
            raise ModelError(f"{self._title} cannot run this model: {one_line(error)}") from error
        return one

    @abstractmethod
    def compiled(self, program: bytes) -> Compiled:
        """Compile an ONNX program; what it raises becomes a ModelError."""


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array
