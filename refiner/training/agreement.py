"""Agreement: how close the outputs of a network are to those of the original; no label is used.

For outputs that are logits, agreement is the negative Kullback-Leibler divergence of softened
probabilities, in nats (``softened_divergence`` in ``task.py``). For any other output, it is the
negative squared error over the variance of the original's output. The original itself scores 0.
When architectures of a trained network are compared, agreement varies far less than accuracy on as
many images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils import _pytree as pytree

from refiner.core.contents import PLAIN_TYPES, tensors_in
from refiner.core.errors import ConfigError
from refiner.core.inputs import fresh
from refiner.core.types import Batch
from refiner.training.compared import compared_network, compared_output
from refiner.training.task import Classification, Segmentation, Task
from refiner.training.teacher_hooks import (
    LEAST_VARIANCE,
    TINY,
    Args,
    Divergence,
    Kwargs,
    compare_calls,
)

LOGITS, OWN, ERROR = "logits", "own", "error"
"""Ways to compare outputs: by the divergence of logits, by a task's own divergence, by error."""
MOST_BATCHES = 64
"""Of how many batches the teacher's outputs are kept at most."""
MOST_BYTES = 2**31
"""Memory from which on no more of them are kept; raw maps of a detector may be large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """An output of the teacher, and the call that it belongs to."""

    inputs: tuple[object, ...]
    """Tensors and plain values of the call."""
    structure: pytree.TreeSpec
    """How they were passed."""
    versions: tuple[int, ...]
    """Of each tensor; a version changes when the tensor is written to."""
    output: object

    def fits(self, inputs: Sequence[object], structure: pytree.TreeSpec) -> bool:
        """Return whether a call has the same inputs, in the same tensors or in equal ones."""
        if structure != self.structure or _versions(self.inputs) != self.versions:
            return False
        return all(
            ours is theirs or _equal(ours, theirs)
            for ours, theirs in zip(self.inputs, inputs, strict=True)
        )


def _versions(inputs: Sequence[object]) -> tuple[int, ...]:
    return tuple(each._version for each in inputs if isinstance(each, torch.Tensor))


def _equal(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        same_kind = (first.shape, first.dtype, first.device) == (
            second.shape,
            second.dtype,
            second.device,
        )
        return same_kind and torch.equal(first, second)
    return isinstance(first, PLAIN_TYPES) and type(first) is type(second) and first == second


class _Kept:
    """What the teacher gave for one batch: an output for each call of the network, in order."""

    def __init__(self, batch: object) -> None:
        self.batch = batch
        """Its ``id`` stays taken as long as this record lives."""
        self.targets: list[_Target] = []
        self.calls = 0


def compared_by(task: Task) -> str:
    """Return in which way agreement compares the outputs of networks: one of the three above."""
    divergence = getattr(type(task), "divergence", None)
    if divergence in (Classification.divergence, Segmentation.divergence):
        return LOGITS
    return ERROR if getattr(task, "divergence", None) is None else OWN


class Agreement:
    """A task whose score is the agreement of a network with a teacher, 0 at best.

    The main outputs are compared, or what the task's ``compared`` returns.

    Args:
        task: calls a network on a batch. Its ``divergence``, if it has one, compares two outputs.
        teacher: runs in eval mode without gradients, on its own device. Its outputs are kept until
            :meth:`forget`, so that it runs once for each batch, however many networks are measured.
            They are kept for the first ``MOST_BATCHES`` batches, so that memory cannot grow.
    """

    metric = "agreement"

    def __init__(self, task: Task, teacher: nn.Module) -> None:
        self.task, self.teacher = task, teacher.eval()
        self.divergence: Divergence | None = getattr(task, "divergence", None)
        self._targets: dict[int, _Kept] = {}
        """Outputs of the teacher by the ``id`` of the first tensor of a batch."""
        self._bytes = 0
        """Memory of these outputs."""
        self._current: _Kept | None = None
        """Of the batch that is being measured; None where nothing of it is kept."""

    def forget(self) -> None:
        """Release the kept outputs of the teacher."""
        self._targets.clear()
        self._bytes = 0

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
            ours, theirs = (compared_output(self.task, each) for each in (output, target))
            parts.append(self._sums(ours, theirs, samples))

        self._current = self._kept(batch)
        with compare_calls(compared_network(self.task, model), self._run_teacher, compare):
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

    def _kept(self, batch: Batch) -> _Kept | None:
        """Return what is kept of a batch, ready for its first call; None where there is no room."""
        tensors = tensors_in(batch)
        if not tensors:
            return None
        kept = self._targets.get(id(tensors[0]))
        if kept is None:
            if len(self._targets) >= MOST_BATCHES or self._bytes >= MOST_BYTES:
                return None
            kept = self._targets[id(tensors[0])] = _Kept(tensors[0])
        kept.calls = 0
        return kept

    def _run_teacher(self, args: Args, kwargs: Kwargs) -> object:
        """Return the teacher's output for a call, from what is kept of the batch where it fits."""
        inputs, structure = pytree.tree_flatten((args, kwargs))
        kept = self._current
        if kept is None or any(isinstance(x, torch.Tensor) and x.is_inference() for x in inputs):
            return self._output(args, kwargs)
        call, kept.calls = kept.calls, kept.calls + 1
        if call < len(kept.targets) and kept.targets[call].fits(inputs, structure):
            return kept.targets[call].output
        output = self._output(args, kwargs)
        target = _Target(
            inputs=tuple(inputs), structure=structure, versions=_versions(inputs), output=output
        )
        kept.targets[call : call + 1] = [target]
        self._bytes += sum(tensor.nbytes for tensor in tensors_in(output))
        return output

    def _output(self, args: Args, kwargs: Kwargs) -> object:
        args, kwargs = fresh((args, kwargs))
        return compared_network(self.task, self.teacher)(*args, **kwargs)
