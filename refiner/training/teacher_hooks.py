"""Runs a teacher beside a network: on the same input, each time that a task calls the network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import nn

from refiner.core.batches import batch_size

Args: TypeAlias = tuple[object, ...]
Kwargs: TypeAlias = dict[str, object]
Divergence = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Returns how far an output is from the teacher's, a scalar: the ``divergence`` of a task."""

LEAST_VARIANCE = 1e-3
"""Least variance of a target, in units of its mean square: a batch may hold a single number."""
TINY = 1e-8


@contextmanager
def compare_calls(
    model: nn.Module,
    run_teacher: Callable[[Args, Kwargs], object],
    compare: Callable[[object, object, int], None],
) -> Iterator[None]:
    """Run a teacher before each call of ``model`` inside the context, and compare after the call.

    The network may write to its input, and the task to the output; the comparison is in between.

    Args:
        model: the network.
        run_teacher: returns the teacher's output for the arguments of a call.
        compare: gets the network's output, the teacher's output, and the number of samples.
    """
    waiting: list[tuple[object, int]] = []

    def before(_module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        with torch.no_grad():
            waiting.append((run_teacher(args, kwargs), batch_size(args if args else kwargs)))

    def after(_module: nn.Module, _args: Args, output: object) -> None:
        compare(output, *waiting.pop())

    hooks = [
        model.register_forward_pre_hook(before, with_kwargs=True),
        model.register_forward_hook(after),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
