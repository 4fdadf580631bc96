"""Cost: multiply-accumulates, parameters and milliseconds.

Counting semantics. One MAC is one multiply-accumulate; MACs are those of one forward pass of one
sample in eval mode. ``counting.py`` counts every conv, matrix product, attention and recurrent
layer that runs, functional calls and fused ones too; norms, activations and pools count zero. thop
is run beside it (``thop_check.py``); where the two differ by more than a thousandth, the cost says
so. Operations that may hold MACs and that nothing counts are named in ``missed``, and a note says
so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import nn

from refiner.core.batches import batch_size
from refiner.core.contents import describe
from refiner.core.errors import ModelError, one_line
from refiner.core.inputs import ExampleInput, to_device_of
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.cost.counting import count_macs
from refiner.cost.thop_check import thop_macs
from refiner.graph.conv_spec import ConvSpec
from refiner.graph.slots import ConvSite, Slot
from refiner.space.candidates import ORIGINAL
from refiner.space.filling import built, filling
from refiner.space.search_space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a model costs."""

    macs: int
    """Multiply-accumulates of one forward pass of one sample."""
    params: int
    """Number of parameters, each shared one once."""
    thop_macs: int | None = field(default=None, compare=False)
    """The same by thop; None where it was not run, or could not."""
    uncounted: tuple[str, ...] = field(default=(), compare=False)
    """Operations that computed something but count no MACs, with how often: ``relu_ x 17``."""
    missed: tuple[str, ...] = field(default=(), compare=False)
    """Those among them that may hold MACs, so that ``macs`` may be too low: ``_fft_r2c x 2``."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What is missed, where the counters disagree or that one could not run, in words."""


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
    try:
        counted = count_macs(work, example)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} fails on an input of shape {describe(example)}: "
            f"{one_line(error)}"
        ) from error
    macs = counted.macs // batch_size(example)
    missed = _listed(counted.missed)
    notes = (not_counted(missed),) if missed else ()
    other, trouble = thop_macs(work, example) if cross_check else (None, ())
    if other and abs(other - macs) > macs / 1000:
        trouble = (
            f"thop, which sees layers alone, counts {other:,} MACs, torch {macs:,}; torch's "
            "figure is used",
        )
    return Cost(
        macs=macs,
        params=sum(p.numel() for p in model.parameters()),
        thop_macs=other,
        uncounted=_listed(counted.plain + counted.missed),
        missed=missed,
        notes=(*notes, *trouble),
    )


def _listed(operations: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{name} x {count}" for name, count in sorted(operations.items()) if count)


def not_counted(missed: Sequence[str]) -> str:
    """Return what a user should know of operations that nothing counts."""
    return (
        f"not counted, though they may multiply and accumulate: {', '.join(missed)}. The MACs are "
        "those of all else"
    )


def slot_costs(space: SearchSpace) -> tuple[tuple[Cost, ...], ...]:
    """Return the cost of each candidate of each slot.

    The parameters are those of the convs and of the norms after them.

    The cost of an architecture is that of the model plus, over the slots, the chosen candidate's
    minus the original's.
    """
    return tuple(
        tuple(_slot_cost(slot, name) for name in names)
        for slot, names in zip(space.slots, space.candidates, strict=True)
    )


def _slot_cost(slot: Slot, name: str) -> Cost:
    filled = filling(slot, name)
    parts = [
        _operation_macs(operation, site.spec, site.in_shape, site.out_shape)
        for operation, site in zip(filled.operations, filled.sites, strict=True)
    ]
    return Cost(
        macs=sum(macs for macs, _ in parts) + sum(site.macs_after for site in filled.sites),
        params=filled.parameters,
        missed=tuple(dict.fromkeys(name for _, missed in parts for name in missed)),
    )


@cache
def _operation_macs(
    name: str, spec: ConvSpec, in_shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> tuple[int, tuple[str, ...]]:
    """Return the MACs of a candidate in place of a conv, and what of it nothing counts."""
    if name == ORIGINAL:
        site = ConvSite(conv="", norm=None, spec=spec, in_shape=in_shape, out_shape=out_shape)
        return site.macs, ()
    with torch.device("meta"), seeded(0):
        counted = count_macs(built(name, spec).eval(), torch.empty(in_shape))
    return counted.macs, _listed(counted.missed)
