"""Count multiply-accumulates: a dispatch mode that sees each operation that runs.

Convs, matrix products and attention are counted by the formulas of ``torch.utils.flop_counter``,
halved since torch counts two operations a MAC. ``fused.py`` adds formulas for the fused operations
that torch has none for. An operation without a formula is decomposed where torch knows how. What
is left either computes no MACs by convention (norms, activations, pools, reductions,
interpolation), or is *missed*: it may multiply and accumulate, and nobody counts it.

Torch takes other paths for transformer layers where gradients are off, among them nested tensors
that leave padding out. They are switched off here, so padding counts as any other token.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils.flop_counter import flop_registry

from refiner.core.contents import tensors_in
from refiner.core.inputs import ExampleInput, call, fresh
from refiner.core.randomness import seeded
from refiner.cost.fused import FUSED
from refiner.cost.without_macs import MOVES_DATA, computes_no_macs

_ASKS = frozenset(
    "size sym_size stride sym_stride storage_offset sym_storage_offset numel sym_numel dim layout "
    "is_contiguous sym_is_contiguous is_strides_like_format is_non_overlapping_and_dense "
    "device _cuda_version".split()
)
"""Operations that ask for a property of a tensor, or of the build of torchvision."""


@dataclass(slots=True, kw_only=True)
class Counted:
    """What one forward pass ran."""

    macs: int = 0
    """Multiply-accumulates of the whole batch."""
    plain: Counter[str] = field(default_factory=Counter)
    """How often each operation ran that computes something, but no MACs by convention."""
    missed: Counter[str] = field(default_factory=Counter)
    """How often each operation ran that may hold MACs and that nothing here counts."""


def count_macs(model: nn.Module, example: ExampleInput) -> Counted:
    """Return what a forward pass of ``model`` without gradients runs, in its current mode."""
    counter = _MacCounter()
    with torch.no_grad(), seeded(0), _plain_paths(), counter:
        call(model, fresh(example))
    return counter.counted


@contextmanager
def _plain_paths() -> Iterator[None]:
    """Switch torch's fast paths for transformer layers off, and restore the setting after."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _MacCounter(TorchDispatchMode):
    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.counted = Counted()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            return self._higher_order(func, args, kwargs)
        packet = func._overloadpacket
        name = packet.__name__
        if name in _ASKS:
            return NotImplemented
        given = tensors_in((args, kwargs))
        if any(map(is_traceable_wrapper_subclass, given)):
            return NotImplemented  # it runs operations on plain tensors, which come here
        known = packet in flop_registry or str(packet) in FUSED
        if not known and not any(tensor.is_nested for tensor in given):
            with self:
                output = func.decompose(*args, **kwargs)
                if output is not NotImplemented:
                    return output
        output = func(*args, **kwargs)
        if known:
            self._count(packet, name, output, args, kwargs)
        elif computes_no_macs(func):
            shown = "batch_norm" if "batch_norm" in name else name  # its names differ by the mode
            self.counted.plain[shown] += name not in MOVES_DATA
        else:
            self.counted.missed[name] += 1
        return output

    def _count(self, packet: Any, name: str, output: Any, args: Any, kwargs: Any) -> None:
        """Add the MACs of an operation; one whose formula fails on its arguments is missed."""
        try:
            if str(packet) in FUSED:
                macs = FUSED[str(packet)](output, *args, **kwargs)
            else:
                macs = flop_registry[packet](*args, **kwargs, out_val=output) // 2
        except Exception:  # nested and sparse tensors have shapes that no formula knows
            self.counted.missed[name] += 1
        else:
            self.counted.macs += int(macs)

    def _higher_order(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation that takes functions; of a condition the branch that is taken counts."""
        if func is torch.ops.higher_order.cond:
            condition, if_true, if_false, operands = args
            with self:
                return (if_true if condition else if_false)(*operands)
        output = func(*args, **kwargs)
        if func in flop_registry:
            self._count(func, func.__name__, output, args, kwargs)
        else:
            self.counted.missed[func.__name__] += 1
        return output
