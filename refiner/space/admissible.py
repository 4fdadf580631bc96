"""Which candidates a slot is offered, and which of these it admits.

An admissible candidate keeps the output shape of the slot and is not larger than it.
"""

from collections.abc import Sequence

from refiner.core.errors import ConfigError
from refiner.graph.slots import Granularity, Slot
from refiner.space.candidates import (
    DEFAULT_CANDIDATES,
    FURTHER_CANDIDATES,
    GROUP_CANDIDATES,
    ORIGINAL,
    ChannelPruning,
    get_candidate,
)
from refiner.space.channel_pruning import widths
from refiner.space.filling import filling, operation_shape_and_parameters


def offered_names(
    candidates: Sequence[str] | None, granularity: Granularity = "conv", is_group: bool = False
) -> tuple[str, ...]:
    """Return the names of the candidates for a slot: those given, or else the defaults.

    The defaults are ``GROUP_CANDIDATES`` for a group and ``DEFAULT_CANDIDATES`` for other slots,
    with ``FURTHER_CANDIDATES`` where pointwise convs are slots.

    Raises:
        ConfigError: an unknown candidate, one named twice, or one for groups where there are none.
    """
    if candidates is not None:
        names = tuple(candidates)
    elif is_group:
        names = GROUP_CANDIDATES
    else:
        further = () if granularity in ("conv", "block") else FURTHER_CANDIDATES
        names = (*DEFAULT_CANDIDATES, *further)
    for name in names:
        if isinstance(get_candidate(name), ChannelPruning) and granularity != "group":
            raise ConfigError(
                f"{name} prunes the channels between the convs of a group, and slots is "
                f"{granularity}. Take --slots group (granularity='group'), or leave {name} out."
            )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"candidate {repeated[0]} is named twice. Name each once.")
    return names


def admissible(slot: Slot, names: Sequence[str], allow_larger: bool) -> tuple[str, ...]:
    """Return the candidates that a slot admits, in the order of ``names``.

    The parameters of the whole slot are compared. A candidate has to fit each conv of the slot or,
    in a channel group, one of them. A conv's own kind does not fit it.

    Raises:
        ConfigError: the output of a candidate has another shape than that of the conv.
    """
    found = []
    original = filling(slot, ORIGINAL).parameters
    for name in names:
        candidate = get_candidate(name)
        if isinstance(candidate, ChannelPruning):
            if _prunes(slot, candidate, names):
                found.append(name)
            continue
        fits = [candidate.fits(site.spec) for site in slot.sites]
        if not (any(fits) if slot.is_group else all(fits)):
            continue
        filled = filling(slot, name)
        for operation, site in zip(filled.operations, filled.sites, strict=True):
            shape, _ = operation_shape_and_parameters(operation, site.spec, site.in_shape)
            if operation != ORIGINAL and shape != (1, *site.out_shape[1:]):
                raise ConfigError(
                    f"candidate {name!r} gives shape {shape} for slot {slot.name}, whose conv "
                    f"gives {(1, *site.out_shape[1:])}. Correct its build function or its `fits`."
                )
        if allow_larger or filled.parameters <= original:
            found.append(name)
    return tuple(found)


def _prunes(slot: Slot, candidate: ChannelPruning, names: Sequence[str]) -> bool:
    """Return whether a slot admits a channel pruning.

    A channel has to stay between each two dense convs. If several prunings keep equally many, only
    the one with the smallest keep ratio is admitted.
    """
    left = widths(slot, candidate.keep_ratio)
    equal = [
        other.keep_ratio
        for other in map(get_candidate, names)
        if isinstance(other, ChannelPruning) and widths(slot, other.keep_ratio) == left
    ]
    return slot.is_group and all(left) and candidate.keep_ratio == min(equal)
