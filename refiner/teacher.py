"""A task with a teacher: the network also learns to give what the original gives.

The loss is the task's own and the divergence from the teacher, weighted. Where the task says what its outputs
are (``divergence``), as logits by classes do, that is the Kullback-Leibler divergence of softened
probabilities (Hinton et al., Distilling the Knowledge in a Neural Network, 2015); else it is the squared
error over the variance of the teacher's output.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from refiner.errors import ConfigError
from refiner.inputs import tensors_in
from refiner.surgery import copied
from refiner.task import Task


class WithTeacher(nn.Module):
    """A task of which the loss also draws the network to a teacher.

    Args:
        task: whose loss and score count. A head of its own is trained as ever.
        teacher: runs in eval mode without gradients, on the device that it is on; it is not trained.
        weight: share of the divergence in the loss, 0 to 1.

    Raises:
        ConfigError: the weight is out of its range.
    """

    teacher: nn.Module

    def __init__(self, task: Task, teacher: nn.Module, *, weight: float = 0.5) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ConfigError(f"the teacher's weight is {weight}. Give a share, 0 to 1.")
        self.task, self.weight = task, weight
        self.metric = task.metric
        # Not a child: what a task holds is trained.
        object.__setattr__(self, "teacher", teacher)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return the weighted mean of the task's loss and of the divergence from the teacher."""
        calls: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []
        hook = model.register_forward_hook(
            lambda _m, args, kwargs, output: calls.append((args, kwargs, output)), with_kwargs=True
        )
        try:
            own = self.task.loss(model, batch)
        finally:
            hook.remove()
        self.teacher.eval()
        divergence: Callable[..., torch.Tensor] = getattr(self.task, "divergence", squared_error)
        parts = []
        for args, kwargs, output in calls:
            with torch.no_grad():
                target = self.teacher(*args, **kwargs)
            # A network may give further outputs in train mode, after those of eval mode.
            pairs = itertools.takewhile(
                lambda pair: pair[0].shape == pair[1].shape,
                zip(tensors_in(output), tensors_in(target), strict=False),
            )
            parts += [divergence(ours.float(), theirs.float()) for ours, theirs in pairs]
        if not parts:
            raise ConfigError(
                "the teacher's output has another shape than the network's. Give the original as teacher."
            )
        return (1 - self.weight) * own + self.weight * torch.stack(parts).mean()

    def measure(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return what the task's ``measure`` does."""
        return self.task.measure(model, batch)

    def score(self, sums: torch.Tensor) -> float:
        """Return what the task's ``score`` does."""
        return self.task.score(sums)


def taught(task: Task, model: nn.Module, weight: float, device: torch.device) -> Task:
    """Return ``task`` with a copy of ``model`` on the device as teacher; the task itself where ``weight`` is 0."""
    if not weight:
        return task
    return WithTeacher(task, copied(model).to(device), weight=weight)


def squared_error(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error over the variance of the target.

    A thousandth of its mean square stands for a variance that is smaller: a batch may hold one number.
    """
    variance = torch.maximum(target.var(correction=0), 1e-3 * target.square().mean())
    return (output - target).square().mean() / variance.clamp(min=1e-8)
