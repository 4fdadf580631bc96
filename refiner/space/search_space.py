"""The search space: the slots of a model and, for each, its admissible candidates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from refiner.core.errors import ArchitectureError, ConfigError, ModelError
from refiner.graph.probe import irreplaceable
from refiner.graph.skips import SkipEdge
from refiner.graph.slots import Frozen, Granularity, Slot, find_slots
from refiner.graph.tracing import trace
from refiner.space.architecture import Architecture
from refiner.space.candidates import (
    DEFAULT_CANDIDATES,
    FURTHER_CANDIDATES,
    GROUP_CANDIDATES,
    ORIGINAL,
    ChannelPruning,
    get_candidate,
)
from refiner.space.channel_pruning import broken_groups, widths
from refiner.space.filling import filling, operation_shape_and_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The slots of a model and, for each, its admissible candidates."""

    slots: tuple[Slot, ...]
    candidates: tuple[tuple[str, ...], ...]
    """Names of the candidates of each slot; index 0 is ``original``."""
    frozen: tuple[Frozen, ...]
    skips: tuple[SkipEdge, ...]
    granularity: Granularity

    @property
    def size(self) -> int:
        """Number of architectures."""
        return math.prod(len(names) for names in self.candidates)

    def architecture(self, vector: Sequence[int]) -> Architecture:
        """Return the architecture of ``vector``.

        Raises:
            ArchitectureError: wrong length, or an index that its slot does not have.
        """
        return Architecture(vector=tuple(vector), slots=self.slots, candidates=self.candidates)


def space_of(architecture: Architecture, model: nn.Module, example_input: Any) -> SearchSpace:
    """Return the space that an architecture is a point of, with the shapes that ``example_input`` gives.

    So an architecture found on small images has its costs on large ones.

    Raises:
        ArchitectureError: it was made for another model.
        ModelError: the model cannot be traced.
    """
    granularity = _granularity(architecture.slots)
    table = find_slots(trace(model, example_input), granularity)
    sites = {site.conv: site for slot in table.slots for site in slot.sites}
    missing = [s.conv for slot in architecture.slots for s in slot.sites if s.conv not in sites]
    if missing:
        raise ArchitectureError(
            f"the architecture was made for another model: {missing[0]} is no slot of "
            f"{type(model).__name__}. `refine slots MODEL` lists them."
        )
    slots = [
        replace(slot, sites=tuple(replace(sites[s.conv], norm=s.norm) for s in slot.sites))
        for slot in architecture.slots
    ]
    return SearchSpace(
        slots=tuple(slots),
        candidates=architecture.candidates,
        frozen=table.frozen,
        skips=table.skips,
        granularity=granularity,
    )


def _granularity(slots: Sequence[Slot]) -> Granularity:
    if any(slot.is_group for slot in slots):
        return "group"
    if any(len(slot.sites) > 1 for slot in slots):
        return "block"
    pointwise = any(set(site.spec.kernel_size) == {1} for slot in slots for site in slot.sites)
    return "all" if pointwise else "conv"


def candidate_names(
    candidates: Sequence[str] | None, granularity: Granularity = "conv", is_group: bool = False
) -> tuple[str, ...]:
    """Return the names of candidates to offer to a slot: those that were named, or else the defaults.

    These are ``GROUP_CANDIDATES`` for a group, and ``DEFAULT_CANDIDATES`` for others, with ``FURTHER_CANDIDATES`` where
    pointwise convs are slots.

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
                f"{name} takes channels between the convs of a group away, and slots is {granularity}. Take --slots "
                f"group (granularity='group'), or leave {name} out."
            )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"candidate {repeated[0]} is named twice. Name each once.")
    return names


def search_space(
    model: nn.Module,
    example_input: Any,
    *,
    granularity: Granularity = "conv",
    candidates: Sequence[str] | None = None,
    allow_larger: bool = False,
) -> SearchSpace:
    """Trace ``model`` and return its slots with their admissible candidates.

    A candidate is admissible where it gives the slot's output shape and, unless ``allow_larger``,
    has no more parameters than the original (section 3.4 of the paper). A conv without an
    admissible candidate is frozen.

    Args:
        model: any conv model; never changed.
        example_input: a tensor, a tuple of positional or a mapping of keyword arguments.
        granularity: ``conv``, ``block``, ``all``, which has the pointwise convs for slots as well, or ``group``,
            which of these has one slot for each group, whose convs can have fewer channels between them.
        candidates: names, in the order that their indices follow; by default ``DEFAULT_CANDIDATES``, for
            ``all`` and ``group`` those of ``FURTHER_CANDIDATES`` after them, and for a group itself ``GROUP_CANDIDATES``.
        allow_larger: admit candidates with more parameters than the original.

    Raises:
        ModelError: the model cannot be traced, or has no slot.
        ConfigError: an unknown candidate or granularity.
    """
    space = offered_space(
        model,
        example_input,
        granularity=granularity,
        candidates=candidates,
        allow_larger=allow_larger,
    )
    if not space.slots:
        raise ModelError(_no_slot(model, space.frozen, granularity))
    return space


def offered_space(
    model: nn.Module,
    example_input: Any,
    *,
    granularity: Granularity = "conv",
    candidates: Sequence[str] | None = None,
    allow_larger: bool = False,
) -> SearchSpace:
    """Return what :func:`search_space` returns, and an empty space where no conv can change."""
    candidate_names(candidates, granularity)
    table = find_slots(trace(model, example_input), granularity)
    slots = _broken_apart(table.slots, model, example_input)
    fitting, without = [], []
    for slot in slots:
        names = candidate_names(candidates, granularity, slot.is_group)
        found = _admissible(slot, names, allow_larger)
        if found:
            fitting.append((slot, found))
            continue
        reason = "no admissible candidate among " + ", ".join(names)
        without += [Frozen(name=site.conv, reason=reason) for site in slot.sites]
    modules = [
        [name for s in slot.sites for name in (s.conv, s.norm) if name] for slot, _ in fitting
    ]
    bound = irreplaceable(model, modules, example_input)
    if bound:  # it may be the norm alone that the model reads; then candidates share it
        convs = [[site.conv for site in fitting[i][0].sites] for i in bound]
        still = {bound[i] for i in irreplaceable(model, convs, example_input)}
        for i in set(bound) - still:
            slot, found = fitting[i]
            sites = tuple(replace(site, norm=None) for site in slot.sites)
            fitting[i] = replace(slot, sites=sites), found
        bound = sorted(still)
    without += [
        Frozen(name=site.conv, reason="the model uses it in other ways than by calling it")
        for i in bound
        for site in fitting[i][0].sites
    ]
    kept = [pair for i, pair in enumerate(fitting) if i not in bound]
    return SearchSpace(
        slots=tuple(slot for slot, _ in kept),
        candidates=tuple((ORIGINAL, *found) for _, found in kept),
        frozen=(*table.frozen, *without),
        skips=table.skips,
        granularity=granularity,
    )


def _no_slot(model: nn.Module, frozen: Sequence[Frozen], granularity: Granularity) -> str:
    name = type(model).__name__
    if not frozen:
        return f"{name} has no convs, so there is nothing to refine. Give a convolutional model."
    reasons: dict[str, int] = {}
    for conv in frozen:
        reasons[conv.reason] = reasons.get(conv.reason, 0) + 1
    listed = "; ".join(f"{count} x {reason}" for reason, count in list(reasons.items())[:4])
    more = (
        "Take pointwise convs as well (--slots all), n" if granularity in ("conv", "block") else ""
    )
    return (
        f"none of the {len(frozen)} convs of {name} can change: {listed}. "
        f"{more or 'N'}ame other candidates, or allow larger ones (--allow-larger, allow_larger=True)."
    )


def _broken_apart(slots: Sequence[Slot], model: nn.Module, example_input: Any) -> tuple[Slot, ...]:
    """Return the slots, those of a group that a run does not bear out taken apart into one a conv."""
    groups = [slot for slot in slots if slot.is_group]
    if not groups:
        return tuple(slots)
    modules = [[name for s in slot.sites for name in (s.conv, s.norm) if name] for slot in groups]
    bad = [
        *broken_groups(model, groups, example_input),
        *irreplaceable(model, modules, example_input),
    ]
    broken = {groups[i].name for i in bad}
    whole: list[Slot] = []
    for slot in slots:
        if slot.name in broken:
            whole += [Slot(name=site.conv, sites=(site,)) for site in slot.sites]
        else:
            whole.append(slot)
    return tuple(whole)


def _admissible(slot: Slot, names: Sequence[str], allow_larger: bool) -> tuple[str, ...]:
    """Return the candidates that a slot admits, in the order named.

    The parameters are compared over the slot as a whole. A candidate that does not fit one of the
    slot's convs, such as that conv's own kind, is not offered; in a group, one that fits none.
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
                    f"candidate {name!r} gives shape {shape} for slot {slot.name}, whose conv gives "
                    f"{(1, *site.out_shape[1:])}. Mend its build function or its `fits`."
                )
        if allow_larger or filled.parameters <= original:
            found.append(name)
    return tuple(found)


def _prunes(slot: Slot, candidate: ChannelPruning, names: Sequence[str]) -> bool:
    """Return whether a pruning leaves each link of a group some of its channels, and none with a smaller keep ratio as many."""
    left = widths(slot, candidate.keep_ratio)
    alike = [
        other.keep_ratio
        for other in map(get_candidate, names)
        if isinstance(other, ChannelPruning) and widths(slot, other.keep_ratio) == left
    ]
    return slot.is_group and all(left) and candidate.keep_ratio == min(alike)
