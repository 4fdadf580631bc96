"""Which candidates a slot is offered, and which of these it admits.

An admissible candidate keeps the output shape of the slot and is not larger than it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from refiner.core.errors import ConfigError
from refiner.graph.slots import Granularity, Slot
from refiner.space.candidates import (
    DEFAULT_CANDIDATES,
    FURTHER_CANDIDATES,
    GROUP_CANDIDATES,
    NO_BRANCH,
    ORIGINAL,
    Candidate,
    ChannelPruning,
    WholeSlot,
    get_candidate,
)
from refiner.space.channel_pruning import inner_units, inner_widths, widths
from refiner.space.filling import filling, operation_shape_and_parameters
from refiner.space.keep_ratios import CHANNEL_BLOCK, pruning_names

CONVS = "convs"
"""Name of a set of candidates; see :class:`Offer`."""
_SMALLER_CONVS = ("conv5x5", "conv3x3")

_FURTHER: dict[Granularity, tuple[str, ...]] = {
    "conv": (),
    "block": (NO_BRANCH,),
    "all": FURTHER_CANDIDATES,
    "group": (*FURTHER_CANDIDATES, NO_BRANCH),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the slots of a model are offered.

    Raises:
        ConfigError: the block of channels is not a positive number.
    """

    candidates: Sequence[str] | None = None
    """Names of candidates, in the order of their indices; None offers the defaults.

    The defaults of a channel group are the prunings that suit it (``keep_ratios.py``) and
    ``GROUP_CANDIDATES``. Other slots get ``DEFAULT_CANDIDATES``, with ``FURTHER_CANDIDATES`` where
    pointwise convs are slots, and with ``NO_BRANCH`` where slots may hold several convs.

    :data:`CONVS` stands for all candidates that leave torch's own convs: the prunings in a channel
    group, and convs with smaller kernels elsewhere. Code that reads weights, such as the ``fuse``
    of ultralytics, then works on the result."""
    allow_larger: bool = False
    """Whether a candidate may have more parameters than the original."""
    channel_multiple: int = CHANNEL_BLOCK
    """The prunings leave multiples of this number of channels."""
    only: Sequence[str] = ()
    """Names or patterns of the convs that may change, or of modules that hold them; all by default.
    See :mod:`refiner.space.chosen_layers`."""
    skip: Sequence[str] = ()
    """Those of convs that may not."""

    def __post_init__(self) -> None:
        if not isinstance(self.channel_multiple, int) or self.channel_multiple < 1:
            raise ConfigError(f"channel_multiple is {self.channel_multiple}. Give 1 or more.")
        for name, patterns in (("only", self.only), ("skip", self.skip)):
            listed = isinstance(patterns, list | tuple | set)
            if not listed or not all(isinstance(p, str) and p for p in patterns):
                raise ConfigError(f"{name} is {patterns!r}. Give a list of names or patterns.")

    @property
    def prunes(self) -> bool:
        """Whether a channel pruning was named, which only groups have."""
        return any(isinstance(get_candidate(name), ChannelPruning) for name in self.named)

    @property
    def named(self) -> tuple[str, ...]:
        """Names of single candidates that were given."""
        return tuple(name for name in self.candidates or () if name != CONVS)

    def check(self, granularity: Granularity) -> None:
        """Check the names that were given.

        Raises:
            ConfigError: an unknown candidate, one named twice, or a pruning where no slot is a
                group.
        """
        for name in self.named:
            if isinstance(get_candidate(name), ChannelPruning) and granularity != "group":
                raise ConfigError(
                    f"{name} prunes the channels between the convs of a group, and slots is "
                    f"{granularity}. Take --slots group (granularity='group'), or leave {name} out."
                )
        given = list(self.candidates or ())
        repeated = sorted({name for name in given if given.count(name) > 1})
        if repeated:
            raise ConfigError(f"candidate {repeated[0]} is named twice. Name each once.")

    def names_for(self, slot: Slot, granularity: Granularity) -> tuple[str, ...]:
        """Return the names of the candidates that a slot is offered."""
        prunings: tuple[str, ...] = ()
        if slot.is_group:
            prunings = pruning_names(inner_widths(slot), self.channel_multiple, inner_units(slot))
        if self.candidates is not None:
            plain = prunings or _SMALLER_CONVS
            names = [plain if name == CONVS else (name,) for name in self.candidates]
            return tuple(dict.fromkeys(itertools.chain.from_iterable(names)))
        if slot.is_group:
            return (*prunings, *GROUP_CANDIDATES)
        return (*DEFAULT_CANDIDATES, *_FURTHER[granularity])


def admissible(slot: Slot, names: Sequence[str], allow_larger: bool) -> tuple[str, ...]:
    """Return the candidates that a slot admits, in the order of ``names``.

    The parameters of the whole slot are compared. A candidate has to fit each conv of the slot or,
    in a channel group, one of them. One that replaces all at once has to suit the slot. A conv's
    own kind does not fit it. A group that begins with a stem admits prunings alone.

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
        if not _suits(slot, candidate):
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


def _suits(slot: Slot, candidate: Candidate | WholeSlot) -> bool:
    if slot.has_stem:
        return False
    if isinstance(candidate, WholeSlot):
        return candidate.sites(slot) is not None
    fits = [candidate.fits(site.spec) for site in slot.sites]
    return any(fits) if slot.is_group else all(fits)


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
