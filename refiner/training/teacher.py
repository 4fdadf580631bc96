"""Training with a teacher: knowledge distillation from the original network.

The loss is the weighted mean of the task's own loss and the divergence from the teacher. A task
whose outputs are logits has a ``divergence``: the Kullback-Leibler divergence of softened
probabilities (Hinton et al., Distilling the Knowledge in a Neural Network, 2015). For any other
task it is the squared error over the variance of the teacher's output.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from refiner.core.contents import tensors_in
from refiner.core.errors import ConfigError
from refiner.core.inputs import fresh
from refiner.core.surgery import copied
from refiner.core.types import Batch
from refiner.training.compared import compared_network, compared_output
from refiner.training.task import Task
from refiner.training.teacher_hooks import (
    LEAST_VARIANCE,
    TINY,
    Args,
    Divergence,
    Kwargs,
    compare_calls,
)
from refiner.training.teacher_mode import TeacherMode


class WithTeacher(nn.Module):
    """A task whose loss includes the divergence from a teacher.

    Args:
        task: gives the loss and the score. A head of its own is trained as usual.
        teacher: runs without gradients, on its own device; it is not trained. It runs in eval mode,
            or where that gives other things than train mode, in the mode that matches the
            network's (:class:`refiner.training.teacher_mode.TeacherMode`).
        weight: share of the divergence in the loss, 0 to 1. With 1 the built-in tasks, and those
            with a method ``run(model, batch)``, need no labels to train.

    Raises:
        ConfigError: the weight is out of range.
    """

    teacher: nn.Module
    mode: TeacherMode | None
    """Of the teacher, beside networks in train mode; found at the first of their calls."""

    def __init__(self, task: Task, teacher: nn.Module, *, weight: float = 0.5) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ConfigError(f"the teacher's weight is {weight}. Give a share, 0 to 1.")
        self.task, self.weight = task, weight
        self.metric = task.metric
        # Not a child: the children of a task are trained.
        object.__setattr__(self, "teacher", teacher.eval())
        object.__setattr__(self, "mode", None)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the weighted mean of the task's loss and the divergence from the teacher.

        Raises:
            ConfigError: there is nothing to compare, or the outputs differ in shape.
        """
        parts: list[torch.Tensor] = []

        def compare(output: object, target: object, _samples: int) -> None:
            parts.extend(self._divergences(output, target))

        def run_teacher(args: Args, kwargs: Kwargs) -> object:
            return self._run_teacher(args, kwargs, training=model.training)

        with compare_calls(compared_network(self.task, model), run_teacher, compare):
            own = self._own_loss(model, batch)
        if not parts:
            raise ConfigError(
                "the task does not call the network itself, so there is no output to compare with "
                "the teacher's. Call model(...) in its loss, or train without the teacher "
                "(teacher_weight=0)."
            )
        divergence = torch.stack(parts).mean()
        return divergence if own is None else (1 - self.weight) * own + self.weight * divergence

    def _own_loss(self, model: nn.Module, batch: Batch) -> torch.Tensor | None:
        """Return the task's own loss; None where it has no weight, and so labels are not needed."""
        if self.weight < 1:
            return self.task.loss(model, batch)
        run = getattr(self.task, "run", self.task.loss)
        run(model, batch)
        return None

    def _divergences(self, output: object, target: object) -> list[torch.Tensor]:
        """Return the divergence for each output that both networks have."""
        divergence: Divergence = getattr(self.task, "divergence", squared_error)
        if hasattr(self.task, "compared"):
            output, target = (compared_output(self.task, each) for each in (output, target))
        # In train mode a network may give further outputs, after those of eval mode.
        pairs = itertools.takewhile(
            lambda pair: pair[0].shape == pair[1].shape and pair[0].dim(),
            zip(tensors_in(output), tensors_in(target), strict=False),
        )
        divergences = [divergence(ours.float(), theirs.float()) for ours, theirs in pairs]
        if not divergences:
            raise ConfigError(
                f"the teacher gives {_shapes(target)} where the network in training gives "
                f"{_shapes(output)}, so they cannot be compared. Train without the teacher "
                "(--teacher-weight 0, teacher_weight=0), or take the original as the teacher."
            )
        return divergences

    def _run_teacher(self, args: Args, kwargs: Kwargs, *, training: bool) -> object:
        """Return the teacher's output for a call of the network, which is in train mode or not."""

        def run() -> object:
            given, named = fresh((args, kwargs))
            return compared_network(self.task, self.teacher)(*given, **named)

        if not training:
            self.teacher.eval()
            return run()
        if self.mode is None:
            object.__setattr__(self, "mode", TeacherMode(self.teacher, run))
        assert self.mode is not None
        with self.mode.on():
            return run()

    def measure(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the sums of the task's ``measure``."""
        return self.task.measure(model, batch)

    def score(self, sums: torch.Tensor) -> float:
        """Return the task's score."""
        return self.task.score(sums)


def with_teacher(task: Task, model: nn.Module, weight: float, device: torch.device) -> Task:
    """Return ``task`` with a copy of ``model`` on ``device`` as its teacher.

    A weight of 0 returns the task itself.
    """
    if not weight:
        return task
    return WithTeacher(task, copied(model).to(device), weight=weight)


def _shapes(output: object) -> str:
    """Return the shapes of an output's tensors, for messages."""
    shapes = [
        str(tuple(tensor.shape)) if tensor.dim() else "a number" for tensor in tensors_in(output)
    ]
    return ", ".join(shapes[:3]) or "no tensor"


def squared_error(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error over the variance of the target, a scalar.

    The variance counts as at least a thousandth of the target's mean square.
    """
    variance = torch.maximum(target.var(correction=0), LEAST_VARIANCE * target.square().mean())
    return F.mse_loss(output, target) / variance.clamp(min=TINY)
