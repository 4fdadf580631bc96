"""A teacher: the network also learns to give what the original gives, or is scored by how alike they are.

The loss is the task's own and the divergence from the teacher, weighted. Where the task says what its outputs
are (``divergence``), as logits by classes do, that is the Kullback-Leibler divergence of softened
probabilities (Hinton et al., Distilling the Knowledge in a Neural Network, 2015); else it is the squared
error over the variance of the teacher's output.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.errors import ConfigError
from refiner.core.inputs import batch_size, fresh, tensors_in
from refiner.core.surgery import copied
from refiner.training.task import Task, main_output

Divergence = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_LEAST_VARIANCE = 1e-3
"""In units of the mean square: a batch may hold one number."""
_TINY = 1e-8


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
        self.teacher.eval()
        parts = []

        def compare(output: Any, target: Any, _samples: int) -> None:
            divergence: Divergence = getattr(self.task, "divergence", squared_error)
            # A network may give further outputs in train mode, after those of eval mode.
            pairs = itertools.takewhile(
                lambda pair: pair[0].shape == pair[1].shape,
                zip(tensors_in(output), tensors_in(target), strict=False),
            )
            alike = [divergence(ours.float(), theirs.float()) for ours, theirs in pairs]
            if not alike:
                raise ConfigError(
                    "the teacher's output has another shape than the network's. Give the original as teacher."
                )
            parts.extend(alike)

        with _beside(model, self._target, compare):
            own = self.task.loss(model, batch)
        if not parts:
            raise ConfigError(
                "the task does not call the network itself, so there is nothing to compare with the "
                "teacher's. Call model(...) in its loss, or leave the teacher out (teacher_weight=0)."
            )
        return (1 - self.weight) * own + self.weight * torch.stack(parts).mean()

    def _target(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, kwargs = fresh((args, kwargs))
        return self.teacher(*args, **kwargs)

    def measure(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return what the task's ``measure`` does."""
        return self.task.measure(model, batch)

    def score(self, sums: torch.Tensor) -> float:
        """Return what the task's ``score`` does."""
        return self.task.score(sums)


class Agreement:
    """A task of which the score tells how alike a network's outputs are to a teacher's; no label is used.

    The main outputs are compared. The score is the mean divergence, or else the squared error over the variance of
    the teacher's outputs, less than zero; 0 is the teacher itself. Where architectures of a trained network are
    told apart it varies far less than an accuracy over as many images.

    Args:
        task: tells how a batch is given to a network, and how far two outputs are apart.
        teacher: runs in eval mode without gradients, on the device that it is on. What it gives is kept until
            :meth:`forget`, so that it runs once for each batch on which many networks are measured.
    """

    metric = "agreement"

    def __init__(self, task: Task, teacher: nn.Module) -> None:
        self.task, self.teacher = task, teacher.eval()
        self.divergence: Divergence | None = getattr(task, "divergence", None)
        self._targets: dict[int, tuple[torch.Tensor, Any, int, Any]] = {}
        """By identity of an input: itself, how it was given, its version, and what the teacher gave."""

    def forget(self) -> None:
        """Let what the teacher gave go."""
        self._targets.clear()

    def tells(self, model: nn.Module, batch: Any) -> bool:
        """Return whether a batch, on which ``model`` should do what the teacher does, can be compared.

        It cannot where the task does not call the network itself, or its main output is no tensor.
        """
        try:
            with torch.no_grad():
                score = self.score(self.measure(model, batch))
        except ConfigError:
            return False
        finally:
            self.forget()
        return math.isfinite(score)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return the task's own loss."""
        return self.task.loss(model, batch)

    def measure(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return sums over the batch: (divergence of the samples, their number), or, of the numbers of the
        teacher's outputs, (squared errors, their number, sum, sum of squares).

        Raises:
            ConfigError: there is nothing to compare.
        """  # fmt: skip
        return self.measure_both(model, batch)[0]

    def measure_both(self, model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what :meth:`measure` does, and what the task measures on the way.

        Raises:
            ConfigError: there is nothing to compare.
        """
        parts: list[torch.Tensor] = []

        def compare(output: Any, target: Any, samples: int) -> None:
            ours, theirs = main_output(output), main_output(target)
            tensors = isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor)
            if not tensors or ours.shape != theirs.shape:
                raise ConfigError(
                    "the outputs of an architecture and of the original cannot be compared: they are no tensors "
                    "of one shape. Search from scratch (--no-distill, distill=None)."
                )
            if self.divergence is not None:
                divergence = self.divergence(ours.float(), theirs.float()).double()
                parts.append(
                    torch.stack([divergence * samples, torch.full_like(divergence, samples)])
                )
                return
            ours, theirs = ours.double(), theirs.double()
            error = (ours - theirs).square().sum()
            count = torch.full_like(error, theirs.numel())
            parts.append(torch.stack([error, count, theirs.sum(), theirs.square().sum()]))

        with _beside(model, self._target, compare):
            measured = self.task.measure(model, batch)
        if not parts:
            raise ConfigError("the task does not call the network itself.")
        return torch.stack(parts).sum(dim=0), measured

    def score(self, sums: torch.Tensor) -> float:
        """Return how far the outputs are apart on average, negated."""
        if self.divergence is not None:
            return float(-sums[0] / sums[1])
        error, count, total, squares = map(float, sums)
        mean_square = squares / count
        variance = max(mean_square - (total / count) ** 2, _LEAST_VARIANCE * mean_square)
        return -error / count / max(variance, _TINY)

    def _target(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves, form = pytree.tree_flatten((args, kwargs))
        if len(leaves) != 1 or not isinstance(leaves[0], torch.Tensor) or leaves[0].is_inference():
            args, kwargs = fresh((args, kwargs))
            return self.teacher(*args, **kwargs)
        x, version = leaves[0], leaves[0]._version
        kept = self._targets.get(id(x))
        if kept is not None and kept[1:3] == (form, version):
            return kept[3]
        # An input that is written to is another one after that.
        args, kwargs = fresh((args, kwargs))
        target = self.teacher(*args, **kwargs)
        self._targets[id(x)] = x, form, version, target
        return target


@contextmanager
def _beside(
    model: nn.Module,
    teach: Callable[[tuple[Any, ...], dict[str, Any]], Any],
    compare: Callable[[Any, Any, int], None],
) -> Iterator[None]:
    """Ask a teacher before each call of ``model``, and compare right after it.

    In between, the network may write to its input, and the task to the output.

    Args:
        model: the network.
        teach: returns what the teacher gives for arguments and keyword arguments.
        compare: is given the network's output, the teacher's, and the number of samples.
    """
    waiting: list[tuple[Any, int]] = []

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with torch.no_grad():
            waiting.append((teach(args, kwargs), batch_size(args if args else kwargs)))

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
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


def with_teacher(task: Task, model: nn.Module, weight: float, device: torch.device) -> Task:
    """Return ``task`` with a copy of ``model`` on the device as teacher; the task itself where ``weight`` is 0."""
    if not weight:
        return task
    return WithTeacher(task, copied(model).to(device), weight=weight)


def squared_error(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error over the variance of the target.

    A thousandth of its mean square stands for a variance that is smaller.
    """
    variance = torch.maximum(target.var(correction=0), _LEAST_VARIANCE * target.square().mean())
    return (output - target).square().mean() / variance.clamp(min=_TINY)
