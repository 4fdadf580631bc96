"""Exports loaded again, as modules that are called like the model that they were made from."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.contents import Nested, tensors_in
from refiner.core.inputs import ExampleInput, call, fresh
from refiner.core.types import Output
from refiner.exports.attempts import quiet
from refiner.exports.flattened import Flattened
from refiner.exports.writers import python_module
from refiner.graph.trace_check import repeatable
from refiner.runtimes.onnx_based import OnnxBased
from refiner.runtimes.runtime import Runtime


class Loaded(nn.Module):
    """A program of tensors as a module: it takes the model's inputs and gives outputs of its kind.

    Args:
        run: runs the program on the tensors of its inputs and returns those of its outputs.
        model: whose outputs are imitated.
        example: input on which ``model`` says how its output is nested.
    """

    def __init__(
        self,
        run: Callable[[list[torch.Tensor]], list[torch.Tensor]],
        model: nn.Module,
        example: ExampleInput,
    ) -> None:
        super().__init__()
        self._run = run
        with repeatable(model, training=False):
            self._nesting = pytree.tree_structure(call(model, fresh(example)))

    def forward(self, *args: Nested, **kwargs: Nested) -> Output:
        """Return outputs as the model nests them."""
        inputs = list(tensors_in((args, kwargs)))
        tensors = [tensor.to(inputs[0].device) for tensor in self._run(inputs)]
        return pytree.tree_unflatten(tensors, self._nesting)


class _Program(nn.Module):
    """A program of ``torch.export``, which knows no mode: eval mode is the one it was made in."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self._program = (program,)  # not a submodule, which would be asked to change its mode

    def forward(self, *args: Nested, **kwargs: Nested) -> Output:
        return self._program[0](*args, **kwargs)


def load_export(
    format_name: str, path: Path, model: nn.Module, example: ExampleInput, runtime: Runtime
) -> nn.Module:
    """Return an export as a module.

    Args:
        format_name: one of :data:`refiner.exports.writers.GENERAL`.
        path: its file or folder. A folder of plain PyTorch runs the code in it.
        model: that it was made from.
        example: an input of the model.
        runtime: runs an ONNX file; other formats run in eager PyTorch.
    """
    if format_name == "torchscript":
        with quiet():
            script: nn.Module = torch.jit.load(str(path)).eval()
        if getattr(script, "original_name", "") == Flattened.__name__:
            return Loaded(lambda tensors: list(script(*tensors)), model, example)
        return script
    if format_name == "pt2":
        return _Program(torch.export.load(path).module())
    if format_name == "python":
        loaded: nn.Module = python_module(path).load()
        return loaded.eval()
    assert isinstance(runtime, OnnxBased)
    return Loaded(runtime.program(path), model, example)
