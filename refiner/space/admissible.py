"""Which candidates a slot admits: those that keep its output shape and are no larger than it."""

from collections.abc import Sequence

from refiner.core.errors import ConfigError
from refiner.graph.slots import Slot
from refiner.space.candidates import ORIGINAL, ChannelPruning, get_candidate
from refiner.space.channel_pruning import widths
from refiner.space.filling import filling, operation_shape_and_parameters


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
