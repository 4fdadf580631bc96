"""Which slots of a traced model can be replaced: the model is run to find out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from refiner.core.stand_ins import same_window
from refiner.graph.probe import irreplaceable
from refiner.graph.slots import Slot, singles
from refiner.graph.traced_model import TracedModel
from refiner.space.candidates import NO_BRANCH, WholeSlot, get_candidate
from refiner.space.filling import fill
from refiner.space.probes import broken_groups, broken_whole

SlotCandidates: TypeAlias = tuple[Slot, tuple[str, ...]]
"""A slot with the names of its admissible candidates."""


def replaceable(
    slots: Sequence[SlotCandidates], traced: TracedModel
) -> tuple[list[SlotCandidates], list[Slot]]:
    """Return the slots that can be replaced, and those that cannot.

    If only what comes after a conv of a slot cannot be replaced, the slot stays without it. Its
    candidates then share the norm, and those that take it away are left out.
    """
    found = list(slots)
    bound = irreplaceable(traced, [slot.modules for slot, _ in found])
    if bound:
        convs = [[site.conv for site in found[i][0].sites] for i in bound]
        still = {bound[i] for i in irreplaceable(traced, convs)}
        for i in set(bound) - still:
            slot, names = found[i]
            bare = replace(slot, sites=tuple(site.bare for site in slot.sites), is_branch=False)
            found[i] = bare, tuple(name for name in names if _still_suits(bare, name))
        bound = sorted(still)
    found = [_answering(slot, names, traced) for slot, names in found]
    kept = [pair for i, pair in enumerate(found) if i not in bound]
    return kept, [found[i][0] for i in bound]


def _answering(slot: Slot, names: tuple[str, ...], traced: TracedModel) -> SlotCandidates:
    """Return the slot, without candidates whose window differs where the model reads it.

    They keep the output size for the input that the original gets. A model that pads for the window
    it reads would give them another.
    """
    sites = {site.conv for site in slot.sites} & traced.read
    if not sites:
        return slot, names
    modules = dict(traced.work.named_modules(remove_duplicate=False))

    def answers(name: str) -> bool:
        made = fill(slot, name, modules, lambda _: 0)
        return all(same_window(made[conv], modules[conv]) for conv in sites & made.keys())

    return slot, tuple(filter(answers, names))


def _still_suits(slot: Slot, name: str) -> bool:
    candidate = get_candidate(name)
    return not isinstance(candidate, WholeSlot) or candidate.sites(slot) is not None


def without_broken_slots(
    slots: Sequence[SlotCandidates], traced: TracedModel
) -> list[SlotCandidates]:
    """Return the slots, without the candidates that cannot replace all their convs at once."""
    found = list(slots)
    for name in dict.fromkeys(name for _, names in slots for name in names):
        if isinstance(get_candidate(name), WholeSlot):
            offered = [i for i, (_, names) in enumerate(found) if name in names]
            for number in broken_whole(traced, [found[i][0] for i in offered], name):
                slot, names = found[offered[number]]
                is_branch = slot.is_branch and name != NO_BRANCH
                kept = tuple(each for each in names if each != name)
                found[offered[number]] = replace(slot, is_branch=is_branch), kept
    return found


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
            whole += singles(slot)
        else:
            whole.append(slot)
    return tuple(whole)
