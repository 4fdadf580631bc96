"""Residual blocks and their branches: the convs between the fork and the join of a skip connection.

The skip connection has to arrive at its join with the shape of the join's output.
"""

from collections.abc import Collection, Sequence

import torch
from torch import fx

from refiner.graph.skips import Flow, LocatedSkip

_ADDS = (torch.ops.aten.add, torch.ops.aten.add_)


def find_blocks(
    flow: Flow, skips: Sequence[LocatedSkip], names: Collection[str]
) -> list[tuple[str, ...]]:
    """Return the named convs of each residual block, in the order of the data flow.

    A conv belongs to the smallest block that holds it. A conv in no block is left out.

    Args:
        flow: data flow in eval mode.
        skips: skip connections with their forks and joins.
        names: names of the convs that may change.
    """
    residual = [
        (set(flow.between(fork, join)), flow.index[join])
        for _, (fork, join) in skips
        if any(s.meta.get("shape") == join.meta.get("shape") for s in flow.inputs[join])
    ]
    blocks: dict[int, list[str]] = {}
    for node in flow.convs:
        holders = [(len(nodes), join) for nodes, join in residual if node in nodes]
        if str(node.target) in names and holders:
            blocks.setdefault(min(holders)[1], []).append(str(node.target))
    return [tuple(block) for block in blocks.values()]


def find_branches(flow: Flow, skips: Sequence[LocatedSkip]) -> list[tuple[str, ...]]:
    """Return the names of the convs of each residual branch, in the order of the data flow.

    A branch leads from the fork of a skip connection to an add, past its projection. All data that
    arrives there comes from its last conv, which nothing else reads. After that conv come only
    operations that have at most one parameter for each channel, such as a norm or a layer scale.
    """
    found = (_branch(flow, skip.convs, fork, join) for skip, (fork, join) in skips)
    return [branch for branch in dict.fromkeys(found) if branch]


def _branch(
    flow: Flow, projection: Collection[str], fork: fx.Node, join: fx.Node
) -> tuple[str, ...]:
    """Return the convs of the branch beside one skip connection, empty if it is none."""
    adds = getattr(join.target, "_overloadpacket", None) in _ADDS
    sources = flow.inputs[join]
    shapes = {node.meta["shape"] for node in (join, *sources)}
    if not adds or len(sources) != 2 or len(shapes) != 1:
        return ()
    convs = {
        source: [node for node in flow.between(fork, source) if flow.calls_conv(node)]
        for source in sources
    }
    ends = [s for s in sources if [str(n.target) for n in convs[s]] != list(projection)]
    if len(ends) != 1:
        return ()
    *_, last = convs[ends[0]]
    inside = {last, *flow.between(last, ends[0])}
    live = flow.live()
    for node in inside:
        if not {user for user in node.users if user in live} <= {*inside, join}:
            return ()
        if node is not last and not (
            inside.issuperset(flow.inputs[node]) and _has_few_parameters(flow, node)
        ):
            return ()
    return tuple(str(node.target) for node in convs[ends[0]])


def _has_few_parameters(flow: Flow, node: fx.Node) -> bool:
    """Return whether no parameter that a node reads has more numbers than its output channels."""
    read = [flow.parameters.get(str(n.target)) for n in node.all_input_nodes if n.op == "get_attr"]
    if node.op == "call_module":
        read += flow.module(node).parameters()
    channels = node.meta["shape"][1] if len(node.meta["shape"] or ()) > 1 else 0
    return all(parameter is None or parameter.numel() <= channels for parameter in read)
