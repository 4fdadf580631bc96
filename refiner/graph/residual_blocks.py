"""Residual blocks: the convs between the fork and the join of a skip connection.

The skip connection has to arrive at its join with the shape of the join's output.
"""

from collections.abc import Collection, Sequence

from refiner.graph.skips import Flow, LocatedSkip


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
