"""The mode in which a teacher gives what a network in training gives.

A network may give other things in train mode than in eval mode: a detector gives raw maps instead
of boxes, a classifier logits instead of probabilities. A teacher then has to run as in training,
but without what makes training random and without new norm statistics.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from refiner.core.contents import tensors_in
from refiner.core.randomness import seeded

_DROPOUTS = frozenset(
    {
        F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout,
        F.feature_alpha_dropout, torch.dropout, torch.alpha_dropout, torch.feature_dropout,
    }
)  # fmt: skip


class TeacherMode:
    """Puts a teacher in eval mode, or as near to train mode as its outputs need.

    Args:
        teacher: is not trained; its buffers stay as they are.
        run: calls the teacher on the input of one call of the network.
    """

    def __init__(self, teacher: nn.Module, run: Callable[[], object]) -> None:
        self.teacher = teacher
        self.training = _training_part(teacher, run)
        """Modules that are in train mode; none where eval mode gives the same."""

    @contextmanager
    def on(self) -> Iterator[None]:
        """Inside, the teacher is in this mode; nothing drops out."""
        with _training(self.teacher, self.training):
            yield


class _WithoutDropout(TorchFunctionMode):
    """Functional dropout returns its input."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        if func in _DROPOUTS:
            return args[0] if args else (kwargs or {})["input"]
        return func(*args, **(kwargs or {}))


@contextmanager
def _training(teacher: nn.Module, modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put ``modules`` in train mode and the rest of the teacher in eval mode."""
    teacher.eval()
    if not modules:
        yield
        return
    try:
        for module in modules:
            module.training = True
        with _WithoutDropout():
            yield
    finally:
        teacher.eval()


def _training_part(teacher: nn.Module, run: Callable[[], object]) -> tuple[nn.Module, ...]:
    """Return the modules to put in train mode, none where that changes no output."""
    own = [m for m in teacher.modules() if not type(m).__module__.startswith("torch.nn.modules.")]
    own = [m for m in own if not isinstance(m, nn.modules.batchnorm._NormBase)]
    with _training(teacher, ()), seeded(0):
        expected = tensors_in(run())
    got = _steady(teacher, own, run)
    if got is None:  # some of them are random, or keep statistics
        kinds = dict.fromkeys(map(type, own))
        steady = {
            kind: _steady(teacher, [m for m in own if type(m) is kind], run) for kind in kinds
        }
        own = [m for m in own if steady[type(m)] is not None]
        got = _steady(teacher, own, run)
    return () if got is None or _begins_with(got, expected) else tuple(own)


def _steady(
    teacher: nn.Module, modules: Sequence[nn.Module], run: Callable[[], object]
) -> list[torch.Tensor] | None:
    """Return the teacher's outputs with ``modules`` in train mode.

    None where they are random, where a buffer changes, or where the teacher fails.
    """
    before = {name: buffer.clone() for name, buffer in teacher.named_buffers()}
    outputs = []
    try:
        for seed in (0, 1):
            with _training(teacher, modules), seeded(seed):
                outputs.append(tensors_in(run()))
        changed = any(
            not torch.equal(before[name].nan_to_num(), buffer.nan_to_num())
            for name, buffer in teacher.named_buffers()
            if name in before
        )
    except Exception:  # train mode may want more than the input, such as targets
        return None
    finally:
        for name, buffer in teacher.named_buffers():
            if name in before:
                buffer.copy_(before[name])
    first, second = outputs
    return first if not changed and _begins_with(first, second) else None


def _begins_with(outputs: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    """Return whether the first of ``outputs`` are those that are expected."""
    return len(outputs) >= len(expected) > 0 and all(
        a.shape == b.shape
        and torch.allclose(a.float(), b.float(), rtol=1e-3, atol=1e-4, equal_nan=True)
        for a, b in zip(outputs, expected, strict=False)
    )
