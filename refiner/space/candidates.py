"""Candidates: the operations that may fill a slot, and the table that lists them.

The paper's candidates (section 3.4) are read as its tables require: each one except the convs mixes
channels with a pointwise conv, even if the number of channels stays. Pools without parameters have
names of their own, ``plain_*``. The operations are built in ``operations.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from refiner.core.errors import ConfigError
from refiner.graph.conv_spec import ConvSpec
from refiner.graph.slots import ConvSite, Slot
from refiner.space.constants import branch_sites, build_constant, build_one_channel
from refiner.space.keep_ratios import keep_ratio_of
from refiner.space.merging import merged_sites
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
"""Name of index 0 of every slot: the original operation."""

PAPER_CANDIDATES = ("conv3x3", "depthwise3x3", "maxpool3x3", "avgpool3x3")
"""Candidates of the paper's experiments, in the order of its indices."""

DEFAULT_CANDIDATES = (*PAPER_CANDIDATES, "lowrank2", "lowrank4")
"""The paper's candidates, and those that keep most of what a trained conv has learned."""

FURTHER_CANDIDATES = ("shuffle2", "shuffle4", "factorised", "identity")
"""Further candidates for single convs, if pointwise convs are slots."""

NO_BRANCH = "no_branch"
"""Name of the candidate that leaves nothing of a residual branch but a constant."""

GROUP_CANDIDATES = (NO_BRANCH, *PAPER_CANDIDATES)
"""Candidates of channel groups, after the channel prunings that suit each; see ``keep_ratios.py``.
Pruned convs fine-tune better than low-rank ones and are faster. Merged convs have larger errors
than prunings of as many MACs, so they are offered where they are named."""


def _fits_every_slot(_spec: ConvSpec) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An operation that may fill a slot."""

    name: str
    build: Callable[[ConvSpec], nn.Module]
    """Builds the operation for a conv: same input and output shape, no norm."""
    fits: Callable[[ConvSpec], bool] = _fits_every_slot
    """Returns whether a conv is offered the operation; shape and size are checked separately."""
    about: str = ""
    """One-line description for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelPruning:
    """A candidate of channel groups: fewer inner channels. See ``channel_pruning.py``."""

    name: str
    keep_ratio: float
    """Share of the inner channels that stays."""

    @property
    def about(self) -> str:
        """One-line description for people."""
        return (
            f"channel pruning: keeps {100 * self.keep_ratio:g} % of the channels between the convs"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeSlot:
    """A candidate that replaces all convs of a slot at once, most of them by next to nothing.

    The operations before the last one only let the model's own code between them run. Norms go.
    """

    name: str
    about: str
    before: str
    """Name of the operation that replaces each conv before the last one."""
    last: str
    """Name of the operation that replaces the last conv."""
    sites: Callable[[Slot], tuple[ConvSite, ...] | None]
    """Returns what each operation is built for, with the norms that stay; None if not suited."""
    suits: str
    """What slots it suits, for messages."""
    is_merged: bool = False
    """Whether the last operation is a conv that reads the slot's input."""


_TABLE: dict[str, Candidate | WholeSlot] = {}
_PARTS: dict[str, Candidate] = {}
"""Operations that are no candidates alone."""


def register_candidate(
    name: str,
    build: Callable[[ConvSpec], nn.Module],
    *,
    fits: Callable[[ConvSpec], bool] = _fits_every_slot,
    about: str = "",
) -> Candidate:
    """Register an operation of your own under a name for ``candidates=``.

    Args:
        name: a new name.
        build: builds the module from the hyperparameters of a slot's conv. For every input size,
            its output must have the shape of that conv's output.
        fits: returns whether a conv is offered the operation.
        about: a one-line description, which ``refine slots`` shows.

    Raises:
        ConfigError: the name is taken.
    """
    if name in (ORIGINAL, *_TABLE, *_PARTS) or keep_ratio_of(name) is not None:
        raise ConfigError(f"candidate {name!r} is registered already. Choose another name.")
    candidate = Candidate(name=name, build=build, fits=fits, about=about)
    _TABLE[name] = candidate
    return candidate


def candidate_names() -> tuple[str, ...]:
    """Return the names of all candidates except channel prunings, which exist at any ratio."""
    return tuple(_TABLE)


def get_candidate(name: str) -> Candidate | ChannelPruning | WholeSlot:
    """Return the candidate of that name.

    Raises:
        ConfigError: no candidate has that name.
    """
    keep_ratio = keep_ratio_of(name)
    if keep_ratio is not None:
        return ChannelPruning(name=name, keep_ratio=keep_ratio)
    try:
        return _TABLE[name]
    except KeyError:
        raise ConfigError(
            f"unknown candidate {name!r}. Choose from: {', '.join(_TABLE)}, keep0.5 or another "
            "keep ratio below 1, or register your own with refiner.register_candidate."
        ) from None


def is_own_candidate(name: str) -> bool:
    """Return whether a candidate is one of this library's, and not registered by a user."""
    found = None if name == ORIGINAL else get_candidate(name)
    return not isinstance(found, Candidate) or name in _OWN


def get_operation(name: str) -> Candidate:
    """Return the operation of that name, which replaces a single conv."""
    found = _PARTS.get(name) or get_candidate(name)
    assert isinstance(found, Candidate)
    return found


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
_TABLE[NO_BRANCH] = WholeSlot(
    name=NO_BRANCH,
    about="no residual branch: the mean of each channel of its output",
    before="one_channel",
    last="constant",
    sites=branch_sites,
    suits="a whole residual branch",
)
for _name, _last, _k, _text in (
    ("merged1x1", "dense1x1", 1, "1x1 conv"),
    ("merged_depthwise3x3", "depthwise3x3", 3, "3x3 conv of each channel alone and pointwise conv"),
    ("merged3x3", "conv3x3", 3, "3x3 conv"),
    ("merged5x5", "conv5x5", 5, "5x5 conv"),
):
    _TABLE[_name] = WholeSlot(
        name=_name,
        about=f"a single {_text} in place of all convs of a channel group",
        before="identity",
        last=_last,
        sites=partial(merged_sites, kernel=_k),
        suits=f"a channel group that one {_k}x{_k} conv can stand for",
        is_merged=True,
    )
_PARTS |= {
    "one_channel": Candidate(name="one_channel", build=build_one_channel),
    "constant": Candidate(name="constant", build=build_constant),
    "dense1x1": Candidate(name="dense1x1", build=partial(build_conv, kernel=1)),
}
_OWN = frozenset(_TABLE)
"""Names of this library's candidates."""
