"""What a candidate puts into a slot: an operation for each conv, or narrower convs and norms.

Everything that builds, counts or times candidates goes by this.
"""

import math
from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import nn

from refiner.candidates import ORIGINAL, Narrowing, get_candidate
from refiner.conv_spec import ConvSpec
from refiner.errors import ConfigError, one_line
from refiner.narrowing import kept_channels, narrowed, narrowed_sites
from refiner.randomness import seeded
from refiner.slots import ConvSite, Slot


def site_operations(slot: Slot, name: str) -> tuple[str, ...]:
    """Return the operation that a candidate has for each conv of a slot.

    In a chain it takes the place of the convs that it fits and that it makes no larger, and the others stay.
    """
    if not slot.chained or name == ORIGINAL:
        return (name,) * len(slot.sites)
    candidate = get_candidate(name)
    assert not isinstance(candidate, Narrowing)
    return tuple(
        name
        if candidate.fits(site.spec)
        and built_shape_and_parameters(name, site.spec, site.in_shape)[1]
        <= original_parameters(site.spec)
        else ORIGINAL
        for site in slot.sites
    )


def slot_sites(slot: Slot, name: str) -> tuple[tuple[str, ConvSite], ...]:
    """Return the operation that a candidate has for each conv of a slot, and the conv that it stands in for.

    A narrowing has the originals, of narrower convs.
    """
    candidate = None if name == ORIGINAL else get_candidate(name)
    if isinstance(candidate, Narrowing):
        return tuple((ORIGINAL, site) for site in narrowed_sites(slot, candidate.eighths))
    return tuple(zip(site_operations(slot, name), slot.sites, strict=True))


def original_parameters(spec: ConvSpec) -> int:
    """Return the number of parameters of the conv that ``spec`` describes."""
    weight = spec.out_channels * spec.in_channels // spec.groups * math.prod(spec.kernel_size)
    return weight + (spec.out_channels if spec.bias else 0)


@cache
def built_shape_and_parameters(
    name: str, spec: ConvSpec, in_shape: tuple[int, ...]
) -> tuple[tuple[int, ...], int]:
    """Return a candidate's output shape for one sample, and its number of parameters.

    It is built and run on the meta device, so neither memory nor time is spent on numbers.
    """
    try:
        with torch.device("meta"), seeded(0):
            module = built(name, spec)
            output = module(torch.empty(1, *in_shape[1:]))
    except Exception as error:
        raise ConfigError(f"candidate {name!r} fails to build or run: {one_line(error)}") from error
    return tuple(output.shape), sum(p.numel() for p in module.parameters())


def built(name: str, spec: ConvSpec) -> nn.Module:
    """Return a candidate's operation for one conv, on the device of the moment."""
    candidate = get_candidate(name)
    assert not isinstance(candidate, Narrowing)
    return candidate.build(spec)


def build_operation(name: str, conv: nn.Module, spec: ConvSpec, seed: int) -> nn.Module:
    """Return a freshly initialised candidate on the device and of the dtype of ``conv``."""
    weight = conv.weight
    assert isinstance(weight, torch.Tensor)
    with seeded(seed):
        module = built(name, spec)
    return module.to(device=weight.device, dtype=weight.dtype).train(conv.training)


def fill(
    slot: Slot, name: str, modules: Mapping[str, nn.Module], seed_of: Callable[[int], int]
) -> dict[str, nn.Module]:
    """Return what a candidate puts in the place of a slot's convs and norms, by name; the others stay.

    Args:
        slot: the slot.
        name: of a candidate that it admits; ``original`` puts nothing.
        modules: the originals by name; what is made has their device, dtype and mode.
        seed_of: of the number of a conv, the seed of a new operation's weights.
    """
    if name == ORIGINAL:
        return {}
    candidate = get_candidate(name)
    if isinstance(candidate, Narrowing):
        return narrowed(slot, kept_channels(slot, candidate.eighths, modules), modules)
    return {
        site.conv: build_operation(name, modules[site.conv], site.spec, seed_of(i))
        for i, (site, operation) in enumerate(
            zip(slot.sites, site_operations(slot, name), strict=True)
        )
        if operation != ORIGINAL
    }
