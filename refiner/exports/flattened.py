"""A model as a function of tensors: what TorchScript can trace, whatever the model takes and gives.

A trace returns tensors, and tuples and dicts of one kind of value. Outputs of ultralytics, of
Hugging Face and of many others mix them, or are objects.
"""

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.contents import contents
from refiner.core.inputs import ExampleInput, call, fresh
from refiner.core.types import Output

MOST_NAMES = 8
"""Names of outputs in a line for people."""


class Flattened(nn.Module):
    """Takes the tensors of an input in order, and returns a tuple of those of the output.

    Args:
        model: is called as it is called on ``example``.
        example: other values in it than tensors are constants.
    """

    def __init__(self, model: nn.Module, example: ExampleInput) -> None:
        super().__init__()
        self.model = model
        self._leaves, self._structure = pytree.tree_flatten(example)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the tensors of the model's output, in the order of :func:`output_names`."""
        given = iter(tensors)
        leaves = [next(given) if isinstance(x, torch.Tensor) else x for x in self._leaves]
        output = call(self.model, pytree.tree_unflatten(leaves, self._structure))
        return tuple(part for _, part in contents(output) if isinstance(part, torch.Tensor))


def output_names(model: nn.Module, example: ExampleInput) -> str:
    """Return what the tensors of an output are called in it, such as ``0, 1.boxes, 1.scores``."""
    output: Output = call(model, fresh(example))
    names = [
        ".".join(str(name) for _, name in steps)
        for steps, part in contents(output)
        if isinstance(part, torch.Tensor)
    ]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
