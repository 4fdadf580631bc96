"""What a candidate puts into a slot: operations in place of convs, or pruned convs and norms.

Everything that builds, counts or times candidates uses this.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from refiner.core.errors import ArchitectureError, ConfigError, one_line
from refiner.core.layers import weight_of
from refiner.core.randomness import seeded
from refiner.core.stand_ins import describe_as
from refiner.graph.conv_spec import ConvSpec
from refiner.graph.slots import ConvSite, Slot
from refiner.space.candidates import (
    ORIGINAL,
    ChannelPruning,
    WholeSlot,
    get_candidate,
    get_operation,
)
from refiner.space.channel_pruning import kept_channels, pruned, pruned_sites


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """The contents of a slot with one of its candidates."""

    operations: tuple[str, ...]
    """Name of the operation that replaces each conv; ``original`` keeps the conv."""
    sites: tuple[ConvSite, ...]
    """What the operations are built for: the convs, with fewer channels if the candidate prunes
    them, and the norms that stay."""
    pruning: ChannelPruning | None = None
    """The candidate, if it prunes channels."""

    @property
    def parameters(self) -> int:
        """Number of parameters of all operations and convs, and of what comes after them."""
        return sum(
            site.parameters_after
            + operation_shape_and_parameters(operation, site.spec, site.in_shape)[1]
            + (site.further_parameters if operation == ORIGINAL else 0)
            for operation, site in zip(self.operations, self.sites, strict=True)
        )


def filling(slot: Slot, name: str) -> Filling:
    """Return the contents of a slot with the candidate of that name.

    An operation replaces all convs of a slot. In a channel group it replaces those that it fits and
    does not make larger or, if there are none, all that it fits.

    Raises:
        ArchitectureError: the candidate prunes channels, and the slot is not a channel group; or it
            replaces all convs at once, and the slot does not suit it.
    """
    if name == ORIGINAL:
        return Filling(operations=(name,) * len(slot.sites), sites=slot.sites)
    candidate = get_candidate(name)
    if isinstance(candidate, ChannelPruning):
        if not slot.is_group:
            raise ArchitectureError(
                f"{name} prunes the channels between convs, but slot {slot.name} is not a channel "
                "group. Name another candidate."
            )
        return Filling(
            operations=(ORIGINAL,) * len(slot.sites),
            sites=pruned_sites(slot, candidate.keep_ratio),
            pruning=candidate,
        )
    if isinstance(candidate, WholeSlot):
        sites = candidate.sites(slot)
        if sites is None:
            raise ArchitectureError(
                f"{name} is for {candidate.suits}, and slot {slot.name} is none. Name another "
                "candidate."
            )
        return Filling(
            operations=(*[candidate.before] * (len(sites) - 1), candidate.last), sites=sites
        )
    suited = slot.sites
    if slot.is_group:
        suited = tuple(site for site in suited if candidate.fits(site.spec))
        suited = tuple(site for site in suited if _is_no_larger(name, site)) or suited
    operations = tuple(name if site in suited else ORIGINAL for site in slot.sites)
    return Filling(operations=operations, sites=slot.sites)


def _is_no_larger(name: str, site: ConvSite) -> bool:
    ours = operation_shape_and_parameters(name, site.spec, site.in_shape)[1]
    return ours <= site.spec.parameters


@cache
def operation_shape_and_parameters(
    name: str, spec: ConvSpec, in_shape: tuple[int, ...]
) -> tuple[tuple[int, ...], int]:
    """Return the output shape for one sample, and the number of parameters, of an operation.

    It is built and run on the meta device, which takes neither memory nor time. The shape of the
    original is left empty.

    Raises:
        ConfigError: the operation fails to build or run.
    """
    if name == ORIGINAL:
        return (), spec.parameters
    try:
        with torch.device("meta"), seeded(0):
            module = built(name, spec)
            output = module(torch.empty(1, *in_shape[1:]))
    except Exception as error:
        raise ConfigError(f"candidate {name!r} fails to build or run: {one_line(error)}") from error
    return tuple(output.shape), sum(p.numel() for p in module.parameters())


def built(name: str, spec: ConvSpec) -> nn.Module:
    """Return an operation for one conv, on torch's current device."""
    return get_operation(name).build(spec)


def build_operation(name: str, conv: nn.Module, site: ConvSite, seed: int) -> nn.Module:
    """Return a newly initialised operation with the device, dtype and mode of ``conv``.

    It answers for the conv's hyperparameters (see :mod:`refiner.core.stand_ins`).
    """
    weight = weight_of(conv)
    with seeded(seed):
        module = built(name, site.spec)
    describe_as(module, conv, site.in_shape[1], site.out_shape[1])
    return module.to(device=weight.device, dtype=weight.dtype).train(conv.training)


def fill(
    slot: Slot, name: str, modules: Mapping[str, nn.Module], seed_of: Callable[[int], int]
) -> dict[str, nn.Module]:
    """Return the modules with which a candidate replaces convs and norms of a slot, by name.

    Args:
        slot: the slot.
        name: name of a candidate that it admits; ``original`` replaces nothing.
        modules: the originals by name; new modules get their device, dtype and mode.
        seed_of: returns the seed of a new operation's weights, given the index of its conv.
    """
    filled = filling(slot, name)
    if filled.pruning is not None:
        return pruned(slot, kept_channels(slot, filled.pruning.keep_ratio, modules), modules)
    made = {
        site.conv: build_operation(operation, modules[site.conv], site, seed_of(i))
        for i, (operation, site) in enumerate(zip(filled.operations, filled.sites, strict=True))
        if operation != ORIGINAL
    }
    after = [name for site in slot.sites for name in site.after]
    kept = {name for site in filled.sites for name in site.after}
    made |= {n: nn.Identity().train(modules[n].training) for n in after if n not in kept}
    return made
