"""Agreement: how close the outputs of a network are to those of the original; no label is used.

For outputs that are logits, agreement is the negative Kullback-Leibler divergence of softened
probabilities, in nats (``softened_divergence`` in ``task.py``). For any other output, it is the
negative squared error over the variance of the original's output. The original itself scores 0.
When architectures of a trained network are compared, agreement varies far less than accuracy on as
many images.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.errors import ConfigError
from refiner.core.inputs import fresh
from refiner.core.types import Batch
from refiner.training.task import Task, main_output
from refiner.training.teacher_hooks import (
    LEAST_VARIANCE,
    TINY,
    Args,
    Divergence,
    Kwargs,
    compare_calls,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """An output of the teacher, and the call that it belongs to."""

    input: torch.Tensor
    """The only tensor of the call. Its ``id`` stays taken as long as this record lives."""
    structure: pytree.TreeSpec
    """How the tensor was passed."""
    version: int
    """Version of the tensor; it changes when the tensor is written to."""
    output: object


class Agreement:
    """A task whose score is the agreement of a network with a teacher, 0 at best.

    The main outputs are compared.

    Args:
        task: calls a network on a batch. Its ``divergence``, if it has one, compares two outputs.
        teacher: runs in eval mode without gradients, on its own device. Its outputs are kept until
            :meth:`forget`, so that it runs once for each batch, however many networks are measured.
    """

    metric = "agreement"

    def __init__(self, task: Task, teacher: nn.Module) -> None:
        self.task, self.teacher = task, teacher.eval()
        self.divergence: Divergence | None = getattr(task, "divergence", None)
        self._targets: dict[int, _Target] = {}
        """Outputs of the teacher by the ``id`` of the input."""

    def forget(self) -> None:
        """Release the kept outputs of the teacher."""
        self._targets.clear()

    def can_compare(self, model: nn.Module, batch: Batch) -> bool:
        """Return whether the outputs of ``model`` and the teacher can be compared on a batch.

        They cannot if the task does not call the network itself, if the main output is not a
        tensor, or if the agreement is not finite. Give a ``model`` that equals the teacher.
        """
        try:
            with torch.no_grad():
                score = self.score(self.measure(model, batch))
        except ConfigError:
            return False
        finally:
            self.forget()
        return math.isfinite(score)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the task's own loss."""
        return self.task.loss(model, batch)

    def measure(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return sums over the batch, from which the agreement follows.

        With a divergence: (divergence of the samples, their number). Without one, over the numbers
        in the teacher's output: (squared errors, their number, sum, sum of squares).

        Raises:
            ConfigError: the outputs cannot be compared.
        """
        return self.measure_both(model, batch)[0]

    def measure_both(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums of :meth:`measure` and those of the task's ``measure``, from one pass.

        Raises:
            ConfigError: the outputs cannot be compared.
        """
        parts: list[torch.Tensor] = []

        def compare(output: object, target: object, samples: int) -> None:
            parts.append(self._sums(main_output(output), main_output(target), samples))

        with compare_calls(model, self._run_teacher, compare):
            measured = self.task.measure(model, batch)
        if not parts:
            raise ConfigError("the task does not call the network itself.")
        return torch.stack(parts).sum(dim=0), measured

    def _sums(self, ours: object, theirs: object, samples: int) -> torch.Tensor:
        """Return the sums of :meth:`measure` for one call of the network."""
        if (
            not isinstance(ours, torch.Tensor)
            or not isinstance(theirs, torch.Tensor)
            or ours.shape != theirs.shape
        ):
            raise ConfigError(
                "the outputs of an architecture and of the original cannot be compared: they are "
                "not tensors of one shape. Search from scratch (--no-distill, distill=None)."
            )
        if self.divergence is not None:
            divergence = self.divergence(ours.float(), theirs.float()).double()
            return torch.stack([divergence * samples, torch.full_like(divergence, samples)])
        ours, theirs = ours.double(), theirs.double()
        error = (ours - theirs).square().sum()
        count = torch.full_like(error, theirs.numel())
        return torch.stack([error, count, theirs.sum(), theirs.square().sum()])

    def score(self, sums: torch.Tensor) -> float:
        """Return the agreement, at most 0, from the added sums."""
        if self.divergence is not None:
            return float(-sums[0] / sums[1])
        error, count, total, squares = map(float, sums)
        mean_square = squares / count
        variance = max(mean_square - (total / count) ** 2, LEAST_VARIANCE * mean_square)
        return -error / count / max(variance, TINY)

    def _run_teacher(self, args: Args, kwargs: Kwargs) -> object:
        """Return the teacher's output for a call, kept where the call has a single tensor."""
        leaves, structure = pytree.tree_flatten((args, kwargs))
        if len(leaves) != 1 or not isinstance(leaves[0], torch.Tensor) or leaves[0].is_inference():
            args, kwargs = fresh((args, kwargs))
            return self.teacher(*args, **kwargs)
        x, version = leaves[0], leaves[0]._version
        kept = self._targets.get(id(x))
        if kept is not None and (kept.structure, kept.version) == (structure, version):
            return kept.output
        args, kwargs = fresh((args, kwargs))
        output = self.teacher(*args, **kwargs)
        self._targets[id(x)] = _Target(input=x, structure=structure, version=version, output=output)
        return output
