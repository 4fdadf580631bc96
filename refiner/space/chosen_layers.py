"""Which layers a person lets a search change, by names and patterns.

A pattern is that of :mod:`fnmatch` (``layer3.*.conv1``). One that matches a module takes all convs
in it, so ``layer3`` is the whole stage.
"""

import difflib
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

from refiner.core.errors import ConfigError
from refiner.graph.slots import Frozen, Slot, singles

NOT_NAMED, SKIPPED = "not named with only", "named with skip"
"""Reasons for frozen convs."""


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a module, or one that it is in, has a name of one of the patterns."""
    return any(fnmatchcase(name, p) or fnmatchcase(name, f"{p}.*") for p in patterns)


def check_patterns(patterns: Iterable[str], names: Sequence[str]) -> None:
    """Raise a ConfigError for a pattern that matches none of the convs."""
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in names):
            known = {".".join(n.split(".")[:i]) for n in names for i in range(1, n.count(".") + 2)}
            near = difflib.get_close_matches(pattern, sorted(known), n=1)
            advice = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"no conv has a name like {pattern!r}.{advice} `refine slots` lists the names."
            )


def chosen_layers(
    slots: Sequence[Slot],
    only: Sequence[str],
    skip: Sequence[str],
    frozen: Collection[str] = (),
) -> tuple[list[Slot], list[Frozen]]:
    """Return the slots of the layers that may change, and the convs that may not.

    If some convs of a slot may not change, the others become slots by themselves.

    Args:
        slots: all slots of a model.
        only: patterns; without any, all convs may change.
        skip: patterns of convs that may not.
        frozen: names of the convs that are no slots. Some lose channels with a group.
    """
    kept, left_out = list[Slot](), list[Frozen]()
    for slot in slots:
        why = {site.conv: _why_not(site.conv, only, skip) for site in slot.all_convs}
        along = {name for site in slot.sites for name in site.along} & {*frozen}
        if not any(why.values()) and not any(_why_not(name, only, skip) for name in along):
            kept.append(slot)
            continue
        left_out += [Frozen(name=name, reason=reason) for name, reason in why.items() if reason]
        kept += [each for each in singles(slot) if not why[each.name]]
    return kept, left_out


def _why_not(name: str, only: Sequence[str], skip: Sequence[str]) -> str:
    if only and not matches(name, only):
        return NOT_NAMED
    return SKIPPED if matches(name, skip) else ""
