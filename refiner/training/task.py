"""Tasks: how a batch gives a loss, and a validation set a score.

A task of your own is a class with one attribute and three methods; it needs no base class. It may
have further methods, for a teacher and for a search that compares outputs:

- ``run(model, batch)`` calls the model on a batch, and needs no labels.
- ``compared(output)`` returns the tensor that is compared, for models with outputs of many parts.
- ``compared_network(model)`` returns the part of the model whose outputs are compared.
- ``uncompared(model)`` returns the names of modules that no score depends on. They stay.
- ``divergence(output, target)`` returns how far that tensor is from a teacher's, a scalar.
- ``fisher_draw(output, generator)`` returns random numbers of its shape, so that a small change
  ``dz`` of the tensor costs ``1/2 E[(r . dz)^2]`` of a sample's divergence.
"""

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from refiner.core.batches import output_and_target, output_of
from refiner.core.errors import ConfigError
from refiner.core.types import Batch
from refiner.training.compared import outputs_of
from refiner.training.detection_task import Detection
from refiner.training.labels import (
    as_tensor,
    check_pixels,
    class_numbers,
    class_targets,
    pixel_targets,
    unfit,
)
from refiner.training.own_loss import OwnLoss


class Task(Protocol):
    """What a model is trained for, as the search and the training see it."""

    metric: str
    """Name of the score, for reports."""

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the training loss of a batch, a scalar.

        ``model`` is of the user's class; on several processes it is a wrapper that can only be
        called.
        """

    def measure(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return a one-dimensional tensor of sums over the batch, from which the score follows.

        The sums of all batches and processes are added. So a score does not depend on how the
        validation set is split into batches.
        """

    def score(self, sums: torch.Tensor) -> float:
        """Return the score from the added sums; higher is better."""


def run_network(task: Task, model: nn.Module, batch: Batch) -> None:
    """Call a network on a batch as the task does, for what happens inside it.

    A task with a method ``run(model, batch)``, as the built-in ones have, needs no labels for it.
    Any other calls the network in ``measure``.
    """
    run = getattr(task, "run", None)
    (task.measure if run is None else run)(model, batch)


def check_task(task: Any) -> None:
    """Raise a ConfigError unless ``task`` has the attribute and the methods of a :class:`Task`."""
    missing = [n for n in ("loss", "measure", "score") if not callable(getattr(task, n, None))]
    if not isinstance(getattr(task, "metric", None), str):
        missing.append("metric")
    if missing or isinstance(task, type):
        if isinstance(task, type):
            raise ConfigError(f"the task is the class {task.__name__}. Give an object: call it.")
        raise ConfigError(
            f"the task, a {type(task).__name__}, lacks {', '.join(missing)}. See refiner.Task."
        )


def checked_task(task: Any) -> Task:
    """Return the user's task, or the built-in task of that name.

    Raises:
        ConfigError: the task lacks a method, or there is no task of that name.
    """
    made: Task = make_task(task) if isinstance(task, str) else task
    check_task(made)
    return made


class Classification:
    """Cross entropy and top-1 accuracy, for outputs N x C and labels N.

    Labels are integers, or shares of the classes N x C. A model may give several outputs, the main
    one first.
    """

    metric = "accuracy"

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the mean cross entropy of a batch.

        That of each further output is added with a weight of 0.4 (Inception's value).
        """
        outputs, labels = _run(model, batch)
        return _with_auxiliary(
            [
                F.cross_entropy(
                    *class_targets(output, labels), label_smoothing=self.label_smoothing
                )
                for output in outputs
            ]
        )

    def measure(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return (number correct, number of images)."""
        outputs, labels = _run(model, batch)
        logits, labels = class_targets(outputs[0], labels)
        correct = (logits.argmax(dim=1) == class_numbers(labels)).sum()
        return torch.stack([correct, torch.full_like(correct, len(labels))])

    def divergence(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the divergence of logits from a teacher's, N x C each, a scalar."""
        return softened_divergence(output, target)

    def run(self, model: nn.Module, batch: Batch) -> None:
        """Call the model on a batch, which needs no labels."""
        output_of(model, batch)

    def score(self, sums: torch.Tensor) -> float:
        """Return the share of images that are classified correctly, 0 to 1."""
        return float(sums[0] / sums[1])


class Segmentation:
    """Cross entropy and mean intersection over union, for N x C x H x W and labels N x H x W.

    An output of another size than the labels is resized, bilinearly.

    Args:
        ignore_index: label of pixels to ignore; Pascal VOC and Cityscapes use 255.
    """

    metric = "mean IoU"

    def __init__(self, *, ignore_index: int = 255) -> None:
        self.ignore_index = ignore_index

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the mean cross entropy of the pixels; further outputs are weighted 0.4."""
        outputs, labels = _run(model, batch)
        pairs = [pixel_targets(output, labels) for output in outputs]
        return _with_auxiliary(
            [F.cross_entropy(*pair, ignore_index=self.ignore_index) for pair in pairs]
        )

    def measure(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the confusion matrix, flat: C x C counts of (label, prediction)."""
        outputs, labels = _run(model, batch)
        logits, labels = pixel_targets(outputs[0], labels)
        classes = logits.shape[1]
        known = check_pixels(labels, classes, self.ignore_index)
        cells = labels[known] * classes + logits.argmax(dim=1)[known]
        return torch.bincount(cells, minlength=classes * classes)

    def divergence(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the divergence of logits from a teacher's, N x C x H x W each, a scalar."""
        return softened_divergence(output, target)

    def run(self, model: nn.Module, batch: Batch) -> None:
        """Call the model on a batch, which needs no labels."""
        output_of(model, batch)

    def score(self, sums: torch.Tensor) -> float:
        """Return the mean intersection over union of the classes that occur, 0 to 1."""
        classes = math.isqrt(len(sums))
        confusion = sums.reshape(classes, classes)
        hit = confusion.diagonal()
        union = confusion.sum(0) + confusion.sum(1) - hit
        return float((hit / union)[union > 0].mean())


class Regression:
    """Mean squared error and R2, the explained share of the targets' variance."""

    metric = "R2"

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the mean squared error of a batch."""
        output, target = self._pair(model, batch)
        return F.mse_loss(output.float(), target.float())

    def measure(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return (number of targets, their sum, sum of their squares, sum of squared errors)."""
        output, target = self._pair(model, batch)
        target = target.double()
        error = (output.double() - target).square().sum()
        count = torch.full_like(error, target.numel())
        return torch.stack([count, target.sum(), target.square().sum(), error])

    def run(self, model: nn.Module, batch: Batch) -> None:
        """Call the model on a batch, which needs no labels."""
        output_of(model, batch)

    def score(self, sums: torch.Tensor) -> float:
        """Return R2: 1 - (squared errors) / (squared deviations from the mean); 1 is best."""
        count, total, squares, error = map(float, sums)
        return 1 - error / max(squares - total * total / count, 1e-12)

    def _pair(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        outputs, target = _run(model, batch)
        output = outputs[0]
        if isinstance(output, torch.Tensor) and output.shape == (*target.shape, 1):
            output = output.squeeze(-1)
        if not isinstance(output, torch.Tensor) or output.shape != target.shape:
            raise unfit(
                "regression", f"an output of the targets' shape {tuple(target.shape)}", output
            )
        return output, target


TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "regression": Regression,
    "detection": Detection,
    "own_loss": OwnLoss,
}


def make_task(name: str) -> Task:
    """Return the built-in task of that name.

    Raises:
        ConfigError: there is no such task.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}. Choose one of: {', '.join(TASKS)}.")
    return TASKS[name]()


TEMPERATURE = 4.0
"""Temperature of softened probabilities; in the range of Hinton et al., 2015, section 3."""


def softened_divergence(
    output: torch.Tensor, target: torch.Tensor, temperature: float = TEMPERATURE
) -> torch.Tensor:
    """Return the mean Kullback-Leibler divergence of softened probabilities, in nats, a scalar.

    It is multiplied by the square of the temperature, so that its gradient has the size of a cross
    entropy's (Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2).

    Args:
        output: logits of the network, with the classes in dimension 1.
        target: logits of the teacher, of the same shape.
        temperature: softens both.
    """
    ours, theirs = (F.log_softmax(x.float() / temperature, dim=1) for x in (output, target))
    divergence = (theirs.exp() * (theirs - ours)).sum(dim=1)
    return temperature**2 * divergence.mean()


def _run(model: nn.Module, batch: Batch) -> tuple[list[object], torch.Tensor]:
    """Return the model's outputs for a batch, the main one first, and the batch's target."""
    output, target = output_and_target(model, batch)
    outputs = outputs_of(output)
    return outputs, as_tensor(target, outputs[0])


def _with_auxiliary(losses: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([losses[0], *(0.4 * loss for loss in losses[1:])]).sum()
