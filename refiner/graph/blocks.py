"""Residual blocks: the convs between the fork and the join of a skip edge that changes no shape at its join."""

from collections.abc import Collection, Sequence

from torch import fx

from refiner.graph.skips import Flow, SkipEdge


def find_blocks(
    flow: Flow,
    skips: Sequence[tuple[SkipEdge, tuple[fx.Node, fx.Node]]],
    names: Collection[str],
) -> list[tuple[str, ...]]:
    """Return the convs, of those names, of each residual block, in the order of data.

    A conv belongs to the smallest block that holds it; one in none is left out.

    Args:
        flow: of eval mode.
        skips: skip edges with their forks and joins.
        names: of convs that may change.
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
