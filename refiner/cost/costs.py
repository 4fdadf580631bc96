"""Cost: multiply-accumulates, parameters and milliseconds.

Counting semantics. One MAC is one multiply-accumulate; MACs are those of one forward pass of one
sample in eval mode. The figure is that of ``torch.utils.flop_counter``, halved since it counts two
operations a MAC: it sees every conv, matrix product and attention that runs, functional calls too,
and nothing else. thop is run beside it, on a copy, with each conv and linear layer counted by what
it is rather than by its exact class, and with norms, activations and pools taken as zero, as torch
does; where the two differ by more than a thousandth, the cost says so. Operations that neither
counts are named in ``uncounted``.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from refiner.core.batches import batch_size
from refiner.core.contents import describe
from refiner.core.errors import ModelError, one_line
from refiner.core.inputs import ExampleInput, call, call_arguments, fresh, to_device_of
from refiner.core.layers import is_conv
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.graph.conv_spec import ConvSpec
from refiner.graph.slots import ConvSite, Slot
from refiner.space.candidates import ORIGINAL
from refiner.space.filling import built, filling
from refiner.space.search_space import SearchSpace

_MOVES_DATA = frozenset(
    "view _unsafe_view reshape expand permute transpose t clone detach copy_ alias slice select "
    "unsqueeze squeeze cat stack split split_with_sizes chunk unbind flatten constant_pad_nd empty "
    "empty_like zeros zeros_like ones ones_like full full_like new_zeros new_ones new_empty arange "
    "_to_copy contiguous lift_fresh unfold as_strided index _local_scalar_dense narrow pad roll "
    "flip repeat scalar_tensor".split()
)
"""Operations of aten that compute nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a model costs."""

    macs: int
    """Multiply-accumulates of one forward pass of one sample, by torch's counter."""
    params: int
    """Number of parameters, each shared one once."""
    thop_macs: int | None = field(default=None, compare=False)
    """The same by thop; None where it was not run, or could not."""
    uncounted: tuple[str, ...] = field(default=(), compare=False)
    """Operations that ran and that no counter counts, with how often: ``relu_ x 17``."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """Where the counters disagree or one could not run, in words."""


def measure_cost(
    model: nn.Module, example_input: ExampleInput, *, cross_check: bool = True
) -> Cost:
    """Measure the MACs and parameters of ``model`` on an example input of any batch size.

    Args:
        model: any module; it is copied, never changed.
        example_input: a tensor, a tuple of positional or a mapping of keyword arguments.
        cross_check: count with thop as well, which takes another forward pass.

    Raises:
        ModelError: the model does not run on the example input.
    """
    work = copied(model).eval()
    example = to_device_of(work, example_input)
    seen = _OperationCounter()
    try:
        with torch.no_grad(), seeded(0), FlopCounterMode(display=False) as counter, seen:
            call(work, fresh(example))
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} fails on an input of shape {describe(example)}: "
            f"{one_line(error)}"
        ) from error
    macs = counter.get_total_flops() // 2 // batch_size(example)
    thop_macs, notes = _thop_macs(work, example) if cross_check else (None, ())
    if thop_macs and abs(thop_macs - macs) > macs / 1000:
        notes = (*notes, f"thop counts {thop_macs:,} MACs, torch {macs:,}; torch's figure is used")
    return Cost(
        macs=macs,
        params=sum(p.numel() for p in model.parameters()),
        thop_macs=thop_macs,
        uncounted=tuple(f"{name} x {n}" for name, n in sorted(seen.uncounted.items())),
        notes=notes,
    )


class _OperationCounter(TorchDispatchMode):
    """Counts the operations that compute something and that the flop counter has no formula for."""

    def __init__(self) -> None:
        super().__init__()
        self.uncounted: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        packet = func._overloadpacket
        name = packet.__name__
        if packet not in flop_registry and name not in _MOVES_DATA:
            self.uncounted[name] += 1
        return func(*args, **(kwargs or {}))


def _thop_macs(model: nn.Module, example: ExampleInput) -> tuple[int | None, tuple[str, ...]]:
    """Return thop's count of a model that may be spoilt, and notes if thop could not run."""
    import thop
    from thop.vision.basic_hooks import zero_ops

    def count_layer(module: Any, _inputs: Any, output: torch.Tensor) -> None:
        if isinstance(module, nn.Linear):
            each = module.in_features
        else:
            each = module.in_channels // module.groups * math.prod(module.kernel_size)
        module.total_ops += torch.DoubleTensor([output.numel() * each])

    custom = {
        type(module): count_layer if is_conv(module) or isinstance(module, nn.Linear) else zero_ops
        for module in model.modules()
        if not any(True for _ in module.children())
    }
    args, kwargs = call_arguments(example)
    wrapped = _Positional(model, tuple(kwargs)) if kwargs else model
    try:
        with torch.no_grad(), seeded(0):
            macs, _ = thop.profile(
                wrapped, (*args, *kwargs.values()), custom_ops=custom, verbose=False
            )
    except Exception as error:
        return None, (f"thop could not count this model ({one_line(error, 120)})",)
    return round(macs / batch_size(example)), ()


class _Positional(nn.Module):
    """Calls a model by keyword for a tool that knows positional arguments alone."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *args: Any) -> Any:
        return self.model(**dict(zip(self.names, args, strict=True)))


def slot_costs(space: SearchSpace) -> tuple[tuple[Cost, ...], ...]:
    """Return the cost of each candidate of each slot, norms left out but for what a candidate
    takes from them.

    The cost of an architecture is that of the model plus, over the slots, the chosen candidate's
    minus the original's.
    """
    return tuple(
        tuple(_slot_cost(slot, name) for name in names)
        for slot, names in zip(space.slots, space.candidates, strict=True)
    )


def _slot_cost(slot: Slot, name: str) -> Cost:
    filled = filling(slot, name)
    macs = sum(
        _operation_macs(operation, site.spec, site.in_shape, site.out_shape)
        for operation, site in zip(filled.operations, filled.sites, strict=True)
    )
    norms = sum(site.norm_parameters for site in slot.sites)
    return Cost(macs=macs, params=filled.parameters - norms)


@cache
def _operation_macs(
    name: str, spec: ConvSpec, in_shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> int:
    """Return the MACs of one sample of a candidate in place of a conv."""
    if name == ORIGINAL:
        site = ConvSite(conv="", norm=None, spec=spec, in_shape=in_shape, out_shape=out_shape)
        return site.macs
    with torch.device("meta"), seeded(0), FlopCounterMode(display=False) as counter:
        built(name, spec)(torch.empty(1, *in_shape[1:]))
    return int(counter.get_total_flops() // 2)
