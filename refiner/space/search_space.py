"""The search space: the slots of a model and, for each, its admissible candidates."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from refiner.core.errors import ArchitectureError, ModelError
from refiner.core.inputs import ExampleInput
from refiner.graph.frozen import ALIAS, NO_GRADIENT, STEM
from refiner.graph.probe import why_irreplaceable
from refiner.graph.sample_shapes import for_one_sample
from refiner.graph.skips import SkipConnection
from refiner.graph.slots import ConvSite, Frozen, Granularity, Slot, find_slots, singles
from refiner.graph.traced_model import TracedModel
from refiner.graph.tracing import trace_model
from refiner.space.admissible import Offer, admissible
from refiner.space.architecture import Architecture
from refiner.space.candidates import ORIGINAL
from refiner.space.chosen_layers import NOT_NAMED, SKIPPED, check_patterns, chosen_layers
from refiner.space.keep_ratios import CHANNEL_BLOCK
from refiner.space.replaceable import (
    replaceable,
    without_broken_groups,
    without_broken_slots,
)

AUTO_GRANULARITIES: tuple[Granularity, ...] = ("group", "all", "conv")
"""What ``auto`` chooses from, in the order of preference for a trained model."""

ENOUGH = 0.9
"""Share of the largest MACs of any granularity that a granularity needs to be preferred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The slots of a model and, for each, its admissible candidates."""

    slots: tuple[Slot, ...]
    candidates: tuple[tuple[str, ...], ...]
    """Names of the candidates of each slot; index 0 is ``original``."""
    frozen: tuple[Frozen, ...]
    """The convs that are not slots, with reasons."""
    skips: tuple[SkipConnection, ...]
    granularity: Granularity
    """What a slot is; see :func:`search_space`."""

    @property
    def size(self) -> int:
        """Number of architectures."""
        return math.prod(len(names) for names in self.candidates)

    @property
    def slot_macs(self) -> int:
        """MACs of the original convs and gates of all slots for one sample."""
        return sum(slot.macs for slot in self.slots)

    def architecture(self, vector: Sequence[int]) -> Architecture:
        """Return the architecture of ``vector``.

        Raises:
            ArchitectureError: wrong length, or an index that its slot does not have.
        """
        return Architecture(vector=tuple(vector), slots=self.slots, candidates=self.candidates)


def space_of(
    architecture: Architecture, model: nn.Module, example_input: ExampleInput
) -> SearchSpace:
    """Return the space of an architecture, with the shapes that ``example_input`` gives.

    So the costs of an architecture from small images can be measured on large ones.

    Raises:
        ArchitectureError: it was made for another model.
        ModelError: the model cannot be traced.
    """
    granularity = _granularity(architecture.slots)
    traced = trace_model(model, example_input)
    traced.confirm()
    table = find_slots(traced.graph_module, granularity)
    found = for_one_sample(table.slots, traced)
    sites = {site.conv: site for slot in found for site in slot.all_convs}
    convs = [site.conv for slot in architecture.slots for site in slot.all_convs]
    missing = [name for name in convs if name not in sites]
    if missing:
        raise ArchitectureError(
            f"the architecture was made for another model: {missing[0]} is not a slot of "
            f"{type(model).__name__}. `refine slots MODEL` lists them."
        )

    def known(site: ConvSite) -> ConvSite:
        return replace(
            sites[site.conv], norm=site.norm, along=site.along, gates=site.gates,
            norm_parameters=site.norm_parameters, along_parameters=site.along_parameters,
            along_macs=sites[site.conv].along_macs if site.along else 0, unit=site.unit,
        )  # fmt: skip

    slots = [
        replace(
            slot,
            sites=tuple(map(known, slot.sites)),
            gate_convs=tuple(map(known, slot.gate_convs)),
        )
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


def search_space(
    model: nn.Module,
    example_input: ExampleInput,
    *,
    granularity: Granularity | Literal["auto"] = "conv",
    candidates: Sequence[str] | None = None,
    allow_larger: bool = False,
    channel_multiple: int = CHANNEL_BLOCK,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
) -> SearchSpace:
    """Trace ``model`` and return its slots with their admissible candidates.

    A candidate is admissible if it gives the slot's output shape and, unless ``allow_larger``,
    has no more parameters than the original (section 3.4 of the paper). A conv without an
    admissible candidate is frozen.

    Args:
        model: any conv model; it is never changed.
        example_input: a tensor, a tuple of positional or a mapping of keyword arguments.
        granularity: what a slot is. ``conv``: each spatial conv. ``block``: the spatial convs of a
            residual block. ``all``: each conv, pointwise ones included. ``group``: as ``all``, with
            one slot for each channel group, which can be pruned. ``auto``: the first of ``conv``,
            ``all`` and ``group`` that reaches at least 90 % of the MACs that the best reaches.
        candidates: names, in the order of their indices; ``convs`` stands for all that leave
            torch's own convs. By default those that suit each slot; see
            :class:`refiner.space.admissible.Offer`.
        allow_larger: admit candidates with more parameters than the original.
        channel_multiple: by default, channel prunings leave multiples of so many channels.
        only: names or patterns (``layer3.*``) of the convs that may change, or of modules that hold
            them. By default all may.
        skip: those of convs that may not change.

    Raises:
        ModelError: the model cannot be traced, or has no slot.
        ConfigError: an unknown candidate or granularity, a bad ``channel_multiple``, or a pattern
            that matches no conv.
    """
    offer = Offer(
        candidates=candidates, allow_larger=allow_larger, channel_multiple=channel_multiple,
        only=only, skip=skip,
    )  # fmt: skip
    if granularity == "auto":
        return preferred_space(trace_model(model, example_input), False, offer)[0]
    offer.check(granularity)
    return named_space(trace_model(model, example_input), granularity, offer)


def offered_space(
    model: nn.Module,
    example_input: ExampleInput,
    *,
    granularity: Granularity = "conv",
    candidates: Sequence[str] | None = None,
    allow_larger: bool = False,
) -> SearchSpace:
    """Return the same as :func:`search_space`, but an empty space if no conv can change."""
    offer = Offer(candidates=candidates, allow_larger=allow_larger)
    offer.check(granularity)
    return space_in(trace_model(model, example_input), granularity, offer)


def named_space(traced: TracedModel, granularity: Granularity, offer: Offer) -> SearchSpace:
    """Return the space of one granularity; the errors are those of :func:`search_space`."""
    offer.check(granularity)
    space = space_in(traced, granularity, offer)
    if not space.slots:
        raise ModelError(_no_slot(traced.source, space.frozen, granularity))
    return space


def preferred_space(
    traced: TracedModel, trained: bool, offer: Offer
) -> tuple[SearchSpace, dict[Granularity, int]]:
    """Return the space of the granularity that suits a model, and the MACs that each reaches.

    The order is ``group``, ``all``, ``conv`` for a trained model, and ``conv``, ``all``, ``group``
    otherwise. The first granularity is chosen whose slots hold at least ``ENOUGH`` of the MACs that
    the best one holds. A granularity that does not support the named candidates is left out.

    Args:
        traced: the model.
        trained: whether its weights are trained.
        offer: what slots are offered.

    Raises:
        ModelError: no granularity has a slot.
        ConfigError: an unknown candidate, or one named twice.
    """
    offer.check("group")
    spaces = spaces_in(traced, offer)
    reached = {each: space.slot_macs for each, space in spaces.items()}
    best = max(reached.values())
    order = AUTO_GRANULARITIES if trained else AUTO_GRANULARITIES[::-1]
    for each in order:
        if each in spaces and spaces[each].slots and reached[each] >= ENOUGH * best:
            return spaces[each], reached
    raise ModelError(_no_slot(traced.source, spaces["group"].frozen, "group"))


def spaces_in(traced: TracedModel, offer: Offer) -> dict[Granularity, SearchSpace]:
    """Return the space of each of ``AUTO_GRANULARITIES`` that supports the candidates.

    A space may be empty.
    """
    supported = [each for each in AUTO_GRANULARITIES if each == "group" or not offer.prunes]
    return {each: space_in(traced, each, offer) for each in supported}


def space_in(traced: TracedModel, granularity: Granularity, offer: Offer) -> SearchSpace:
    """Return the space of one granularity; it is empty if no conv can change."""
    table = find_slots(traced.graph_module, granularity)
    convs = [site.conv for slot in table.slots for site in slot.all_convs]
    check_patterns((*offer.only, *offer.skip), [*convs, *(conv.name for conv in table.frozen)])
    still = {conv.name for conv in table.frozen}
    chosen, left_out = chosen_layers(table.slots, offer.only, offer.skip, still)
    slots = without_broken_groups(for_one_sample(chosen, traced), traced)
    offered = _offered(slots, granularity, offer)
    found = [(slot, admissible(slot, names, offer.allow_larger)) for slot, names in offered]
    found, bound = replaceable([pair for pair in found if pair[1]], traced)
    traced.confirm()
    found = [pair for pair in without_broken_slots(found, traced) if pair[1]]
    kept = {site.conv for slot, _ in found for site in slot.all_convs}
    named = {conv.name for conv in left_out}
    reasons = dict.fromkeys(_stems(table.slots) - kept - named, STEM)
    reasons |= {
        site.conv: f"no admissible candidate among {', '.join(names)}"
        for slot, names in offered
        for site in slot.all_convs
        if site.conv not in kept
    }
    reasons |= {
        site.conv: why_irreplaceable(traced, site.conv) for slot in bound for site in slot.all_convs
    }
    frozen = (Frozen(name=name, reason=why) for name, why in reasons.items())
    return SearchSpace(
        slots=tuple(slot for slot, _ in found),
        candidates=tuple((ORIGINAL, *names) for _, names in found),
        frozen=(*table.frozen, *left_out, *frozen),
        skips=table.skips,
        granularity=granularity,
    )


def _offered(
    slots: Sequence[Slot], granularity: Granularity, offer: Offer
) -> list[tuple[Slot, tuple[str, ...]]]:
    """Return the slots with what they are offered; a stem without a pruning is left out."""
    offered = []
    for slot in slots:
        names = offer.names_for(slot, granularity)
        if slot.has_stem and not admissible(slot, names, offer.allow_larger):
            offered += [(each, offer.names_for(each, granularity)) for each in singles(slot)]
        else:
            offered.append((slot, names))
    return offered


def _stems(slots: Sequence[Slot]) -> set[str]:
    return {site.conv for slot in slots for site in slot.sites if site.is_stem}


def _no_slot(model: nn.Module, frozen: Sequence[Frozen], granularity: Granularity) -> str:
    name = type(model).__name__
    if not frozen:
        return f"{name} has no convs, so there is nothing to refine. Give a convolutional model."
    reasons = Counter(conv.reason for conv in frozen if conv.reason != ALIAS)
    listed = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(4))
    none = f"none of the {reasons.total()} convs of {name} can change: {listed}."
    if reasons[NOT_NAMED] or reasons[SKIPPED]:
        return f"{none} Name more layers with only (--only), or fewer with skip (--skip)."
    if reasons.most_common(1)[0][0] == NO_GRADIENT:
        return f"{none} Call requires_grad_() on the layers that may be trained."
    more = (
        "Take pointwise convs as well (--slots all), n" if granularity in ("conv", "block") else "N"
    )
    return (
        f"{none} {more}ame other candidates, or allow larger ones (--allow-larger, "
        "allow_larger=True)."
    )
