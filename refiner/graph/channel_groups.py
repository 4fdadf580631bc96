"""Channel groups: runs of convs whose inner channels can be pruned.

Each conv of a group is the only reader of the conv before it, but for gates. Between two dense
convs stand only depthwise and other grouped convs, operations without parameters, gates
(``gates.py``), and modules with numbers for each channel, such as norms and PReLUs. So inner
channels, those between the convs, can be removed without any change to the rest of the network;
where a grouped conv or a group norm is among them, by whole groups. A depthwise conv that is no
slot, since it computes its own padding, is such a module, too. Names do not show whether an
operation keeps channels apart, so ``probes.py`` of the space runs the network with pruned channels
and drops each group that fails.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import fx

from refiner.graph.gates import Gate, gated
from refiner.graph.narrowing import (
    can_be_cut,
    has_no_numbers,
    is_called_once,
    is_dense,
    is_depthwise,
    keeps_groups_apart,
    unit_of,
)
from refiner.graph.skips import Flow, kernel_volume

MOST_CONVS = 3
"""Most dense convs of a group: the three of a bottleneck. A longer run of convs is cut where the
channels are fewest. So is a run in which some inner channels are less than half as many as others,
for example at the end of an inverted residual block that the next block reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What lies between a conv of a group and the next conv, which reads its channels."""

    reader: str
    """Name of the next conv."""
    along: tuple[str, ...]
    """Names of modules with numbers for each channel."""
    along_macs: int
    """Multiply-accumulates of the depthwise convs among them for one sample of their batch."""
    gates: tuple[Gate, ...]
    """Gates with layers, in their order."""
    unit: int
    """How many channels stay or go together: 1, or whole groups of group norms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """A run of convs whose inner channels can be pruned."""

    convs: tuple[str, ...]
    """Their names, in the order of the data flow."""
    stretches: tuple[Stretch, ...]
    """What lies after each conv but the last."""


def find_channel_groups(
    flow: Flow, training: Flow | None, names: Collection[str], padded: Collection[str] = ()
) -> list[ChannelGroup]:
    """Return the groups of two or more of the named convs, in the order of the data flow.

    Args:
        flow: data flow in eval mode.
        training: data flow in train mode, if known. A group has to be one in both modes.
        names: names of the convs that may change. A group may begin with a stem among them.
        padded: names of further convs. Depthwise ones may lose channels.
    """
    stretches = _stretches(flow, names, padded)
    if training is not None:
        also = _stretches(training, names, padded)
        stretches = {conv: each for conv, each in stretches.items() if also.get(conv) == each}
    readers = _readers(flow, stretches)
    ends = {convs[-1] for convs in readers.values()}
    groups = list[ChannelGroup]()
    for start in readers:
        if start not in ends:
            run: list[tuple[str, ...]] = [(start,)]
            while run[-1][-1] in readers:
                run.append(readers[run[-1][-1]])
            groups += [
                ChannelGroup(convs=convs, stretches=tuple(stretches[conv] for conv in convs[:-1]))
                for convs in _pieces(flow, run)
            ]
    # What lies between the convs of a gate is no group of its own.
    taken = {n for group in groups for s in group.stretches for g in s.gates for n in g.layers}
    return [group for group in groups if taken.isdisjoint(group.convs)]


def _stretches(flow: Flow, names: Collection[str], padded: Collection[str]) -> dict[str, Stretch]:
    """Return what lies after each conv whose channels may be pruned, by its name."""
    live, found = flow.live(), dict[str, Stretch]()
    for node in flow.convs:
        conv = flow.module(node)
        if str(node.target) in names and (
            is_dense(conv) or (can_be_cut(conv) and keeps_groups_apart(conv))
        ):
            stretch = _stretch_after(flow, node, names, padded, live)
            if stretch is not None:
                found[str(node.target)] = stretch
    return found


def _readers(flow: Flow, stretches: Mapping[str, Stretch]) -> dict[str, tuple[str, ...]]:
    """Return the convs that read each dense conv's channels: grouped ones, then a dense one.

    A dense conv whose channels cannot be pruned is left out.
    """
    readers = {}
    for start in (name for name in stretches if is_dense(flow.modules[name])):
        convs = [start]
        while convs[-1] in stretches and (
            len(convs) == 1 or keeps_groups_apart(flow.modules[convs[-1]])
        ):
            convs.append(stretches[convs[-1]].reader)
        if is_dense(flow.modules[convs[-1]]):
            readers[start] = tuple(convs[1:])
    return readers


def _stretch_after(
    flow: Flow,
    node: fx.Node,
    names: Collection[str],
    padded: Collection[str],
    live: set[fx.Node],
) -> Stretch | None:
    """Return what lies after a conv, None if its channels cannot be pruned."""
    channels = node.meta["shape"][1]
    along, gates, unit, macs = list[str](), list[Gate](), 1, 0
    while True:
        passed = gated(flow, node, names, live)
        if passed is not None:
            gates += [] if passed.gate is None else [passed.gate]
            node = passed.join
            continue
        users = [user for user in node.users if user in live]
        if len(users) != 1 or not flow.reads_only(users[0], [node]):
            return None
        (node,) = users
        if flow.calls_conv(node):
            if str(node.target) in names:
                return Stretch(
                    reader=str(node.target),
                    along=tuple(along),
                    along_macs=macs,
                    gates=tuple(gates),
                    unit=unit,
                )
            if str(node.target) not in padded or not is_depthwise(flow.module(node)):
                return None
            macs += math.prod(node.meta["shape"][1:]) * kernel_volume(flow.conv(node))
        shape = node.meta["shape"]
        if shape is None or len(shape) < 3 or shape[1] != channels:
            return None
        if not has_no_numbers(flow, node):
            together = unit_of(flow.module(node), channels)
            if not together or not is_called_once(flow, node):
                return None
            unit = math.lcm(unit, together)
            along.append(str(node.target))


def _pieces(flow: Flow, group: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the groups that a run of convs is cut into.

    Args:
        flow: data flow in eval mode.
        group: the first conv alone, then the convs that read each set of inner channels.
    """
    if len(group) == 1:
        return []
    widths = [flow.modules[convs[-1]].in_channels for convs in group[1:]]
    if len(group) <= MOST_CONVS and 2 * min(widths) >= max(widths):
        return [tuple(name for convs in group for name in convs)]
    middle = (len(widths) - 1) / 2
    cut = 1 + min(range(len(widths)), key=lambda i: (widths[i], abs(i - middle)))
    rest = [group[cut][-1:], *group[cut + 1 :]]  # grouped convs at the cut belong to no group
    return [*_pieces(flow, group[:cut]), *_pieces(flow, rest)]
