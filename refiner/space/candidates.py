"""Candidates: the operations that may fill a slot, and the one table that lists them.

The paper's candidates (section 3.4) as its tables fix them: every one but the convs mixes channels
with a pointwise conv, also where the channel count stays. Parameter-free pools have names of their own,
``plain_*``. What each of them does is in operations.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from refiner.core.errors import ConfigError
from refiner.graph.conv_spec import ConvSpec
from refiner.space.operations import (
    AVG_POOL,
    MAX_POOL,
    build_conv,
    build_depthwise,
    build_factorised,
    build_identity,
    build_low_rank,
    build_plain_pool,
    build_pool,
    build_shuffle,
    can_be_factorised,
    divides,
    has_other_kernel,
    has_rank,
    is_spatial,
    keeps_channels,
    keeps_shape,
)

ORIGINAL = "original"
"""Name of index 0 of every slot: the operation as it came."""

PAPER_CANDIDATES = ("conv3x3", "depthwise3x3", "maxpool3x3", "avgpool3x3")
"""What the paper's experiments offer, in the order of its indices."""

DEFAULT_CANDIDATES = (*PAPER_CANDIDATES, "lowrank2", "lowrank4")
"""The paper's, and those that keep most of what a trained conv has learned."""

FURTHER_CANDIDATES = ("shuffle2", "shuffle4", "factorised", "identity")
"""What a conv by itself is offered as well, where pointwise ones are slots."""

NARROWING_CANDIDATES = ("narrow7", "narrow6", "narrow5", "narrow4", "narrow3", "narrow2")
"""What chains alone can be offered."""

CHAIN_CANDIDATES = (*NARROWING_CANDIDATES, *PAPER_CANDIDATES)
"""What chains are offered: dense convs of fewer channels learn on better than those of low rank, and are faster."""


def _fits_every_slot(_spec: ConvSpec) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An operation that may fill a slot."""

    name: str
    build: Callable[[ConvSpec], nn.Module]
    """Makes the operation for a slot's conv: same input and output shape, no norm."""
    fits: Callable[[ConvSpec], bool] = _fits_every_slot
    """Whether the operation is offered to a slot at all; shape and parameters are checked apart."""
    about: str = ""
    """What it is, in a line for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """A candidate for chains: fewer channels between their convs. See narrowing.py."""

    name: str
    eighths: int
    """Of these channels, how many stay."""

    @property
    def about(self) -> str:
        """What it is, in a line for people."""
        return f"{self.eighths} of 8 channels between the convs of a chain, those that count most"


_TABLE: dict[str, Candidate | Narrowing] = {}


def register_candidate(
    name: str,
    build: Callable[[ConvSpec], nn.Module],
    *,
    fits: Callable[[ConvSpec], bool] = _fits_every_slot,
    about: str = "",
) -> Candidate:
    """Add an operation of your own, to be named in ``candidates=``.

    Args:
        name: a new name.
        build: makes the module for a slot, given the hyperparameters of the slot's conv. Whatever
            the input size, its output must have the shape of that conv's output.
        fits: returns whether a slot is offered the operation.
        about: what it is, in a line that ``refine slots`` shows.

    Raises:
        ConfigError: the name is taken.
    """
    if name in _TABLE or name == ORIGINAL:
        raise ConfigError(f"candidate {name!r} is registered already. Choose another name.")
    candidate = Candidate(name=name, build=build, fits=fits, about=about)
    _TABLE[name] = candidate
    return candidate


def candidate_names() -> tuple[str, ...]:
    """Return the names of all registered candidates."""
    return tuple(_TABLE)


def get_candidate(name: str) -> Candidate | Narrowing:
    """Return the candidate of that name.

    Raises:
        ConfigError: there is none.
    """
    try:
        return _TABLE[name]
    except KeyError:
        raise ConfigError(
            f"unknown candidate {name!r}. Choose from: {', '.join(_TABLE)}, "
            "or register your own with refiner.register_candidate."
        ) from None


for _k in (3, 5):
    register_candidate(
        f"conv{_k}x{_k}",
        partial(build_conv, kernel=_k),
        fits=partial(has_other_kernel, kernel=_k),
        about=f"the slot's conv with a {_k}x{_k} kernel",
    )
for _k in (3, 5):
    register_candidate(
        f"depthwise{_k}x{_k}",
        partial(build_depthwise, kernel=_k),
        about=f"a {_k}x{_k} conv of each channel alone, then a pointwise conv",
    )
for _name, _kind in (("max", MAX_POOL), ("avg", AVG_POOL)):
    register_candidate(
        f"{_name}pool3x3",
        partial(build_pool, kernel=3, kind=_kind),
        fits=is_spatial,
        about=f"a 3x3 {_name} pool, then a pointwise conv",
    )
for _name, _kind in (("max", MAX_POOL), ("avg", AVG_POOL)):
    register_candidate(
        f"plain_{_name}pool3x3",
        partial(build_plain_pool, kernel=3, kind=_kind),
        fits=keeps_channels,
        about=f"a 3x3 {_name} pool alone, without parameters",
    )
for _parts in (2, 4):
    register_candidate(
        f"shuffle{_parts}",
        partial(build_shuffle, parts=_parts),
        fits=partial(divides, parts=_parts),
        about=f"a channel shuffle, then the slot's conv in {_parts} times as many groups",
    )
for _parts, _share in ((2, "half"), (4, "a quarter")):
    register_candidate(
        f"lowrank{_parts}",
        partial(build_low_rank, parts=_parts),
        fits=partial(has_rank, parts=_parts),
        about=f"the slot's conv to few channels, then a pointwise conv: {_share} of the weights",
    )
register_candidate(
    "factorised",
    build_factorised,
    fits=can_be_factorised,
    about="a column of the kernel's height, then a row of its width",
)
register_candidate("identity", build_identity, fits=keeps_shape, about="the slot's input as it is")
_TABLE |= {
    n: Narrowing(name=n, eighths=int(n.removeprefix("narrow"))) for n in NARROWING_CANDIDATES
}
