"""A teacher: the network also learns to give what the original gives, or is scored by how alike they are.

The loss is the task's own and the divergence from the teacher, weighted. Where the task says what its outputs
are (``divergence``), as logits by classes do, that is the Kullback-Leibler divergence of softened
probabilities (Hinton et al., Distilling the Knowledge in a Neural Network, 2015); else it is the squared
error over the variance of the teacher's output.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from refiner.errors import ConfigError
from refiner.inputs import batch_size, tensors_in
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
        with _calls(model) as calls:
            own = self.task.loss(model, batch)
        self.teacher.eval()
        parts = []
        for args, kwargs, output in calls:
            with torch.no_grad():
                target = self.teacher(*args, **kwargs)
            parts.append(_divergence(self.task, output, target))
        if not parts:
            raise ConfigError(
                "the task does not call the network itself, so there is nothing to compare with the "
                "teacher's. Call model(...) in its loss, or leave the teacher out (teacher_weight=0)."
            )
        return (1 - self.weight) * own + self.weight * torch.stack(parts).mean()

    def measure(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return what the task's ``measure`` does."""
        return self.task.measure(model, batch)

    def score(self, sums: torch.Tensor) -> float:
        """Return what the task's ``score`` does."""
        return self.task.score(sums)


class Likeness:
    """A task of which the score tells how alike a network's outputs are to a teacher's; no label is used.

    The score is the mean divergence, the one of :class:`WithTeacher`, less than zero. Where architectures
    of a trained network are told apart it varies far less than an accuracy over as many images.

    Args:
        task: tells how a batch is given to a network, and how far two outputs are apart.
        teacher: runs in eval mode without gradients, on the device that it is on; once for each input.
    """

    metric = "likeness"

    def __init__(self, task: Task, teacher: nn.Module) -> None:
        self.task, self.teacher = task, teacher.eval()
        self._targets = WeakIdKeyDictionary()
        """What the teacher gave for inputs that are still about, and their versions."""

    def knows(self, model: nn.Module, batch: Any) -> bool:
        """Return whether the task calls the network itself, so that there is an output to compare."""
        with torch.no_grad(), _calls(model) as calls:
            self.task.measure(model, batch)
        return bool(calls)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return the task's own loss."""
        return self.task.loss(model, batch)

    def measure(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return (sum of the divergence over the samples, number of samples)."""
        with _calls(model) as calls:
            self.task.measure(model, batch)
        parts, counts = [], []
        for args, kwargs, output in calls:
            parts.append(_divergence(self.task, output, self._target(args, kwargs)))
            counts.append(batch_size(args if args else kwargs))
        count_P = torch.tensor(counts, device=parts[0].device)
        return torch.stack([(torch.stack(parts) * count_P).sum(), count_P.sum()])

    def score(self, sums: torch.Tensor) -> float:
        """Return the mean divergence of a sample, negated: 0 is the teacher itself."""
        return float(-sums[0] / sums[1])

    def _target(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = list(tensors_in((args, kwargs)))
        if len(tensors) != 1:
            return self.teacher(*args, **kwargs)
        version, target = self._targets.get(tensors[0], (None, None))
        if version != tensors[0]._version:
            target = self.teacher(*args, **kwargs)
            self._targets[tensors[0]] = tensors[0]._version, target
        return target


_Calls = list[tuple[tuple[Any, ...], dict[str, Any], Any]]


@contextmanager
def _calls(model: nn.Module) -> Iterator[_Calls]:
    """Give a list that is filled with arguments, keyword arguments and output of each call of ``model``."""
    calls: _Calls = []
    hook = model.register_forward_hook(
        lambda _m, args, kwargs, output: calls.append((args, kwargs, output)), with_kwargs=True
    )
    try:
        yield calls
    finally:
        hook.remove()


def _divergence(task: Task, output: Any, target: Any) -> torch.Tensor:
    """Return how far what a network gave is from what its teacher gave."""
    divergence: Callable[..., torch.Tensor] = getattr(task, "divergence", squared_error)
    # A network may give further outputs in train mode, after those of eval mode.
    pairs = itertools.takewhile(
        lambda pair: pair[0].shape == pair[1].shape,
        zip(tensors_in(output), tensors_in(target), strict=False),
    )
    parts = [divergence(ours.float(), theirs.float()) for ours, theirs in pairs]
    if not parts:
        raise ConfigError(
            "the teacher's output has another shape than the network's. Give the original as teacher."
        )
    return torch.stack(parts).mean()


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
