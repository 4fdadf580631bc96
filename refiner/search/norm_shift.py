"""BN recalibration relative to the original's own statistics.

Statistics of a few batches differ from those that a network was trained to, by chance and by the
mode of training. So a path gets the original's own statistics, changed by as much as its statistics
on some batches differ from the original's on the same ones. The zero vector then equals the
original, and far fewer batches do.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from refiner.space.supernet import MixedOp, Supernet


@dataclass(slots=True)
class _Statistics:
    """Of a norm of the original."""

    norm: nn.Module
    own: tuple[torch.Tensor, torch.Tensor]
    """Mean and variance that it came with."""
    seen: tuple[torch.Tensor, torch.Tensor] | None = None
    """Those on the batches."""


class NormShift:
    """The statistics of the original's norms in a supernet, and on some batches.

    Args:
        supernet: as it was made, before any recalibration.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._of: dict[nn.Module, _Statistics] = {}
        mixed = [module for module in supernet.model.modules() if isinstance(module, MixedOp)]
        candidates = {m for each in mixed for op in list(each.operations)[1:] for m in op.modules()}
        first = {m for each in mixed for m in each.operations[0].modules()}
        for module in supernet.model.modules():
            if _keeps_statistics(module) and (module in first or module not in candidates):
                self._of[module] = _Statistics(module, own=_copied(module))
        self._all = list(self._of.values())
        for each in mixed:
            base = dict(each.operations[0].named_modules())
            for other in list(each.operations)[1:]:
                for name, module in other.named_modules():
                    # In place of a removed branch there is no norm.
                    if base.get(name) in self._of and _keeps_statistics(module):
                        self._of[module] = self._of[base[name]]

    @property
    def measured(self) -> bool:
        """Whether the statistics on the batches are known."""
        return all(each.seen is not None for each in self._all)

    def measure(self) -> None:
        """Take the present statistics for those of the original on the batches."""
        for each in self._all:
            each.seen = _copied(each.norm)

    def state_dict(self) -> list[tuple[torch.Tensor, torch.Tensor] | None]:
        """Return the statistics on the batches."""
        return [each.seen for each in self._all]

    def load_state_dict(self, state: list[tuple[torch.Tensor, torch.Tensor] | None]) -> None:
        """Take over what :meth:`state_dict` returned."""
        for each, seen in zip(self._all, state, strict=True):
            if seen is not None:
                each.seen = seen[0].to(each.own[0].device), seen[1].to(each.own[1].device)

    def restore(self) -> None:
        """Give the original's norms their own statistics back."""
        for each in self._all:
            mean, variance = _buffers(each.norm)
            mean.copy_(each.own[0])
            variance.copy_(each.own[1])

    def correct(self, norms: Iterable[nn.Module]) -> None:
        """Correct recalibrated norms of a path; those of pruned channels stay."""
        for norm in norms:
            each = self._of.get(norm)
            if each is None or each.seen is None:
                continue
            assert isinstance(norm, nn.modules.batchnorm._NormBase)
            mean, variance = _buffers(norm)
            if mean.shape == each.own[0].shape:
                # As the norm sees them, so that a dead channel makes no large factor.
                now, own, seen = (v + norm.eps for v in (variance, each.own[1], each.seen[1]))
                # A candidate may scale what it gives, so a shift is one in deviations.
                mean += (each.own[0] - each.seen[0]) * (now / seen).sqrt()
                variance.copy_((now * (own / seen) - norm.eps).clamp(min=0))


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats


def _buffers(norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    mean, variance = norm.running_mean, norm.running_var
    assert isinstance(mean, torch.Tensor)
    assert isinstance(variance, torch.Tensor)
    return mean, variance


def _copied(norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    mean, variance = _buffers(norm)
    return mean.clone(), variance.clone()
