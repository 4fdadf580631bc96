"""Tasks: how a batch becomes a loss, and a validation set a score.

A task of your own is a class with one attribute and three methods; it inherits from nothing.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from refiner.errors import ConfigError, DataError, one_line


class Task(Protocol):
    """What the search and the training know of the job that a model does."""

    metric: str
    """Name of the score, for people."""

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return the scalar training loss of a batch."""

    def measure(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return a one-dimensional tensor of sums over the batch, from which the score follows.

        The sums of all batches, and of all processes, are added up; so a score never depends on how
        the validation set was cut.
        """

    def score(self, sums: torch.Tensor) -> float:
        """Return the score, higher is better, from the added sums."""


def check_task(task: Any) -> None:
    """Raise a ConfigError unless ``task`` has what a :class:`Task` has."""
    missing = [n for n in ("loss", "measure", "score") if not callable(getattr(task, n, None))]
    if not isinstance(getattr(task, "metric", None), str):
        missing.append("metric")
    if missing or isinstance(task, type):
        lacks = f"lacks {', '.join(missing)}" if missing else "is a class, not an object of it"
        raise ConfigError(f"the task {one_line(task, 60)} {lacks}. See refiner.Task.")


class Classification:
    """Cross entropy and top-1 accuracy for batches of (images, labels)."""

    metric = "accuracy"

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return the mean cross entropy of a batch."""
        images, labels = _pair(batch)
        logits = _logits(model(images), labels)
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)

    def measure(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Return (number correct, number of images)."""
        images, labels = _pair(batch)
        correct = (_logits(model(images), labels).argmax(dim=1) == labels).sum()
        return torch.stack([correct, torch.full_like(correct, len(labels))])

    def score(self, sums: torch.Tensor) -> float:
        """Return the share of images classified correctly, 0 to 1."""
        return float(sums[0] / sums[1])


def _pair(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    raise DataError(
        f"classification wants batches of (images, labels), the loader gives {type(batch).__name__}. "
        "Pass a task of your own, see refiner.Task."
    )


def _logits(output: Any, labels: torch.Tensor) -> torch.Tensor:
    if not isinstance(output, torch.Tensor) or output.dim() != 2 or len(output) != len(labels):
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise DataError(
            f"classification wants an output of shape (batch, classes), the model gives {shape}. "
            "Pass a task of your own, see refiner.Task."
        )
    return output
