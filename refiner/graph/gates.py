"""Gates: channels are multiplied by factors that are computed from them.

The gate of squeeze-and-excitation pools the channels, and two convs make one factor a channel of
them. Where channels go, the first conv loses inputs, and the second outputs. A swish that is
written out, ``x * sigmoid(x)``, has no convs that lose any.

Here a gate is a straight line: each operation on it reads the one before, and nothing else does. It
begins at the channels and ends where it meets them in a product. A run with fewer channels shows
later whether the operations keep channels apart.

Source: Hu et al., Squeeze-and-Excitation Networks, 2018 (arXiv 1709.01507).
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from refiner.graph.narrowing import has_no_numbers, has_plain_weight
from refiner.graph.skips import Flow

_PRODUCTS = (torch.ops.aten.mul, torch.ops.aten.mul_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The two convs of a gate."""

    reduce: str
    """Name of the conv that reads the channels."""
    expand: str
    """Name of the conv that gives a number for each."""
    parameters: int
    """Number of the parameters of both that each belong to one channel."""
    other_parameters: int
    """Number of the others."""
    macs: int
    """Multiply-accumulates of both for one sample. Each belongs to one channel."""

    @property
    def convs(self) -> tuple[str, str]:
        """Names of both convs."""
        return self.reduce, self.expand

    def with_channels(self, few: int, channels: int) -> "Gate":
        """Return the gate of ``few`` of its channels."""
        parameters, macs = self.parameters // channels * few, self.macs // channels * few
        return replace(self, parameters=parameters, macs=macs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """Where channels pass a gate."""

    product: fx.Node
    """The node that multiplies them."""
    gate: Gate | None
    """None where no conv is on the line."""


def gated(flow: Flow, node: fx.Node, names: Collection[str], live: set[fx.Node]) -> Gated | None:
    """Return the gate that the channels of a node pass, None if it has other readers or no gate.

    Args:
        flow: the data flow.
        node: it gives the channels.
        names: of the convs that may change.
        live: the nodes that the output depends on.
    """
    users = [user for user in node.users if user in live]
    if len(users) != 2:
        return None
    for start, product in (users, users[::-1]):
        line = _line(flow, node, start, product, live)
        if line is not None:
            convs = [n for n in line if flow.calls_conv(n)]
            if not convs and all(_fits(flow, n, node) for n in line):
                return Gated(product=product, gate=None)
            if len(convs) == 2 and _is_gate(flow, node, line, convs, names):
                return Gated(product=product, gate=_gate(flow, *convs))
    return None


def _line(
    flow: Flow, node: fx.Node, start: fx.Node, product: fx.Node, live: set[fx.Node]
) -> list[fx.Node] | None:
    """Return the nodes of a straight line from a node to its product with that node."""
    line, before, here = list[fx.Node](), node, start
    while here is not product:
        users = [user for user in here.users if user in live]
        if not flow.reads_only(here, [before]) or len(users) != 1:
            return None
        line.append(here)
        before, here = here, users[0]
    multiplies = getattr(product.target, "_overloadpacket", None) in _PRODUCTS
    same_shape = product.meta["shape"] == node.meta["shape"]
    return line if multiplies and same_shape and flow.reads_only(product, [node, before]) else None


def _fits(flow: Flow, node: fx.Node, channels: fx.Node) -> bool:
    """Return whether a node may keep channels apart and has no numbers to cut."""
    shape, wanted = node.meta["shape"], channels.meta["shape"][:2]
    return shape is not None and shape[:2] == wanted and has_no_numbers(flow, node)


def _is_gate(
    flow: Flow, node: fx.Node, line: list[fx.Node], convs: list[fx.Node], names: Collection[str]
) -> bool:
    """Return whether the convs of a line read one number a channel, and give one."""
    reduce, expand = convs
    one_each = (*node.meta["shape"][:2], 1)

    def shape(n: fx.Node) -> tuple[int, ...]:
        """Return samples, channels and positions."""
        samples, channels, *sizes = n.meta["shape"]
        return samples, channels, math.prod(sizes)

    between = {*line[line.index(reduce) : line.index(expand)], expand}
    return (
        all(str(conv.target) in names and _is_plain(flow.module(conv)) for conv in convs)
        and all(_fits(flow, n, node) for n in line if n not in between)
        and shape(flow.inputs[reduce][0]) == shape(expand) == one_each
        and shape(reduce)[2] == 1
    )


def _is_plain(conv: nn.Module) -> bool:
    return has_plain_weight(conv) and conv.groups == 1


def _gate(flow: Flow, reduce: fx.Node, expand: fx.Node) -> Gate:
    first, second = flow.module(reduce), flow.module(expand)
    weights = sum(p.numel() for conv in (first, second) for p in conv.parameters() if p.dim() > 1)
    biases = [sum(p.numel() for p in m.parameters() if p.dim() == 1) for m in (first, second)]
    return Gate(
        reduce=str(reduce.target),
        expand=str(expand.target),
        parameters=weights + biases[1],
        other_parameters=biases[0],
        macs=weights,
    )
