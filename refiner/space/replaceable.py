"""Which slots of a traced model can be replaced: the model is run to find out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from refiner.graph.probe import irreplaceable
from refiner.graph.slots import Slot
from refiner.graph.traced_model import TracedModel
from refiner.space.candidates import NO_BRANCH
from refiner.space.probes import broken_branches, broken_groups

SlotCandidates: TypeAlias = tuple[Slot, tuple[str, ...]]
"""A slot with the names of its admissible candidates."""


def replaceable(
    slots: Sequence[SlotCandidates], traced: TracedModel
) -> tuple[list[SlotCandidates], list[Slot]]:
    """Return the slots that can be replaced, and those that cannot.

    If only the norm of a slot cannot be replaced, the slot stays without it. Its candidates then
    share the norm, and the branch that it may be cannot go.
    """
    found = list(slots)
    bound = irreplaceable(traced, [slot.modules for slot, _ in found])
    if bound:
        convs = [[site.conv for site in found[i][0].sites] for i in bound]
        still = {bound[i] for i in irreplaceable(traced, convs)}
        for i in set(bound) - still:
            slot, names = found[i]
            sites = tuple(replace(site, norm=None) for site in slot.sites)
            found[i] = replace(slot, sites=sites, is_branch=False), _without_removal(names)
        bound = sorted(still)
    kept = [pair for i, pair in enumerate(found) if i not in bound]
    return kept, [found[i][0] for i in bound]


def without_broken_branches(
    slots: Sequence[SlotCandidates], traced: TracedModel
) -> list[SlotCandidates]:
    """Return the slots; those whose branch cannot go lose the candidate that removes it."""
    found = list(slots)
    removed = [i for i, (_, names) in enumerate(found) if NO_BRANCH in names]
    for number in broken_branches(traced, [found[i][0] for i in removed]):
        slot, names = found[removed[number]]
        found[removed[number]] = replace(slot, is_branch=False), _without_removal(names)
    return found


def _without_removal(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name != NO_BRANCH)


def without_broken_groups(slots: Sequence[Slot], traced: TracedModel) -> tuple[Slot, ...]:
    """Return the slots; a channel group that cannot be pruned is split into single convs."""
    groups = [slot for slot in slots if slot.is_group]
    if not groups:
        return tuple(slots)
    # If all can be replaced together, each group can, so one run is enough.
    everything = [name for slot in slots for name in slot.modules]
    together = not irreplaceable(traced, [everything])
    bad = broken_groups(traced, groups)
    if not together:
        bad += irreplaceable(traced, [slot.modules for slot in groups])
    broken = {groups[i].name for i in bad}
    whole: list[Slot] = []
    for slot in slots:
        if slot.name in broken:
            whole += [Slot(name=site.conv, sites=(site,)) for site in slot.sites]
        else:
            whole.append(slot)
    return tuple(whole)
