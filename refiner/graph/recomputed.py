"""Convs that run with gradients off and learn all the same, since a backward pass runs them again.

Gradient checkpointing (``use_reentrant=True``) and reversible networks do this.
"""

import torch
from torch import fx, nn

from refiner.core.contents import contents
from refiner.core.inputs import ExampleInput, call, fresh
from refiner.core.layers import is_conv
from refiner.graph.trace_check import repeatable


def mark_recomputed(graph: fx.Graph, work: nn.Module, example: ExampleInput) -> None:
    """Set ``meta["learns"]`` of the convs that get a gradient although they ran without gradients.

    A backward pass is run only if there is a conv in question.

    Args:
        graph: recorded in train mode.
        work: the module that it was recorded from.
        example: the example input of that run.
    """
    modules = dict(work.named_modules(remove_duplicate=False))
    off = [
        node
        for node in graph.nodes
        if node.op == "call_module" and not node.meta["grad"] and is_conv(modules[str(node.target)])
    ]
    if off:
        learned = _learned(work, example)
        for node in off:
            node.meta["learns"] = any(
                id(p) in learned for p in modules[str(node.target)].parameters()
            )


def _learned(work: nn.Module, example: ExampleInput) -> set[int]:
    """Return the ``id`` of each parameter that gets a gradient in a training step."""
    parameters = list(work.parameters())
    before = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        with repeatable(work, training=True):
            output = call(work, fresh(example))
            parts = [part for _, part in contents(output) if isinstance(part, torch.Tensor)]
            losses = [part.float().sum() for part in parts if part.requires_grad]
            if losses:
                torch.stack(losses).sum().backward()
        return {id(parameter) for parameter in parameters if parameter.grad is not None}
    except Exception:  # as in the pass itself, the model may fail in many ways
        return set()
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient
