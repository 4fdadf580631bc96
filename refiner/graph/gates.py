"""Gates: channels meet numbers of their own, which layers compute.

The gate of squeeze-and-excitation pools the channels, and two layers make one factor a channel of
them. A layer is a conv or a linear layer. Where channels go, the first layer loses inputs, and the
second outputs. A swish that is written out, ``x * sigmoid(x)``, has no layers that lose any.

The numbers may also come from elsewhere: diffusion models add to the channels what a linear layer
makes of the time. That layer loses outputs.

Here a gate is a straight line: each operation on it reads the one before, and nothing else does. It
begins at the channels, or at a layer elsewhere. It ends where it meets the channels: in a product
or, from elsewhere, also in a sum. A run with fewer channels shows later whether the operations keep
channels apart.

Sources: Hu et al., Squeeze-and-Excitation Networks, 2018 (arXiv 1709.01507); Perez et al., FiLM,
2018 (arXiv 1709.07871).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx

from refiner.graph.narrowing import (
    has_no_numbers,
    has_plain_weight,
    is_called_once,
    is_plain_linear,
    owns_its_parameters,
)
from refiner.graph.skips import Flow

_PRODUCTS = (torch.ops.aten.mul, torch.ops.aten.mul_)
_SUMS = (torch.ops.aten.add, torch.ops.aten.add_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The layers of a gate: convs or linear layers."""

    reduce: str | None
    """Name of the layer that reads the channels; None where the numbers come from elsewhere."""
    expand: str
    """Name of the layer that gives a number for each."""
    parameters: int
    """Number of the parameters of both that each belong to one channel."""
    other_parameters: int
    """Number of the others."""
    macs: int
    """Multiply-accumulates of both for one sample. Each belongs to one channel."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return (self.expand,) if self.reduce is None else (self.reduce, self.expand)

    def with_channels(self, few: int, channels: int) -> "Gate":
        """Return the gate of ``few`` of its channels."""
        parameters, macs = self.parameters // channels * few, self.macs // channels * few
        return replace(self, parameters=parameters, macs=macs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """Where channels pass a gate."""

    join: fx.Node
    """The node where they meet its numbers."""
    gate: Gate | None
    """None where no layer is on the line."""


def gated(flow: Flow, node: fx.Node, names: Collection[str], live: set[fx.Node]) -> Gated | None:
    """Return the gate that the channels of a node pass, None if it has other readers or no gate.

    Args:
        flow: the data flow.
        node: it gives the channels.
        names: of the convs that may change.
        live: the nodes that the output depends on.
    """
    users = _users(node, live)
    if len(users) == 1:
        return _from_elsewhere(flow, node, users[0], names, live)
    if len(users) != 2:
        return None
    for start, product in (users, users[::-1]):
        line = _line(flow, node, start, product, live)
        if line is not None:
            layers = [n for n in line if _calls_layer(flow, n)]
            if not layers and all(_fits(flow, n, node) for n in line):
                return Gated(join=product, gate=None)
            if len(layers) == 2 and _is_gate(flow, node, line, layers, names):
                return Gated(join=product, gate=_gate(flow, *layers))
    return None


def _users(node: fx.Node, live: set[fx.Node]) -> list[fx.Node]:
    return [user for user in node.users if user in live]


def _line(
    flow: Flow, node: fx.Node, start: fx.Node, product: fx.Node, live: set[fx.Node]
) -> list[fx.Node] | None:
    """Return the nodes of a straight line from a node to its product with that node."""
    line, before, here = list[fx.Node](), node, start
    while here is not product:
        users = _users(here, live)
        if not flow.reads_only(here, [before]) or len(users) != 1:
            return None
        line.append(here)
        before, here = here, users[0]
    return line if _meets([node, before], product, _PRODUCTS) else None


def _from_elsewhere(
    flow: Flow, node: fx.Node, join: fx.Node, names: Collection[str], live: set[fx.Node]
) -> Gated | None:
    """Return the gate of numbers from elsewhere that the channels of a node meet, if there is one.

    The line of such a gate begins at a layer that gives one number a channel. What the layer reads
    need not come from the model's input: a time may be a plain number.
    """
    others = [source for source in _read_by(join) if source is not node]
    if len(others) != 1 or not _meets([node, *others], join, (*_PRODUCTS, *_SUMS)):
        return None
    (here,) = others
    while len(_users(here, live)) == 1:
        if _calls_layer(flow, here):
            one_each = _positions(here) == (*node.meta["shape"][:2], 1)
            if not one_each or not _may_be_cut(flow, here, names):
                return None
            return Gated(join=join, gate=_gate(flow, None, here))
        sources = _read_by(here)
        if len(sources) != 1 or not _fits(flow, here, node):
            return None
        (here,) = sources
    return None


def _read_by(node: fx.Node) -> list[fx.Node]:
    """Return all nodes that a node reads, parameters and writers of its inputs included."""
    return list(dict.fromkeys((*node.all_input_nodes, *node.meta.get("after", ()))))


def _meets(pair: Sequence[fx.Node], join: fx.Node, kinds: Sequence[object]) -> bool:
    """Return whether two nodes meet in an operation of a kind that keeps the shape of the first."""
    is_kind = getattr(join.target, "_overloadpacket", None) in kinds
    same_shape = join.meta.get("shape") == pair[0].meta["shape"]
    return is_kind and same_shape and set(_read_by(join)) == set(pair)


def _calls_layer(flow: Flow, node: fx.Node) -> bool:
    """Return whether a node calls a conv or a linear layer that could be of a gate."""
    linear = node.op == "call_module" and is_plain_linear(flow.module(node))
    return flow.calls_conv(node) or (linear and len(node.meta["shape"] or ()) == 2)


def _may_be_cut(flow: Flow, node: fx.Node, names: Collection[str]) -> bool:
    """Return whether a layer can lose inputs and outputs."""
    if not flow.calls_conv(node):
        return is_called_once(flow, node) and owns_its_parameters(flow, flow.module(node))
    conv = flow.module(node)
    return str(node.target) in names and has_plain_weight(conv) and conv.groups == 1


def _fits(flow: Flow, node: fx.Node, channels: fx.Node) -> bool:
    """Return whether a node may keep channels apart and has no numbers to cut."""
    shape, wanted = node.meta["shape"], channels.meta["shape"][:2]
    return shape is not None and shape[:2] == wanted and has_no_numbers(flow, node)


def _positions(node: fx.Node) -> tuple[int, ...]:
    """Return samples, channels and positions of what a node gives."""
    samples, channels, *sizes = node.meta["shape"]
    return samples, channels, math.prod(sizes)


def _is_gate(
    flow: Flow, node: fx.Node, line: list[fx.Node], layers: list[fx.Node], names: Collection[str]
) -> bool:
    """Return whether the layers of a line read one number a channel, and give one."""
    reduce, expand = layers
    one_each = (*node.meta["shape"][:2], 1)
    between = {*line[line.index(reduce) : line.index(expand)], expand}
    return (
        all(_may_be_cut(flow, layer, names) for layer in layers)
        and all(_fits(flow, n, node) for n in line if n not in between)
        and _positions(flow.inputs[reduce][0]) == _positions(expand) == one_each
        and _positions(reduce)[2] == 1
    )


def _gate(flow: Flow, reduce: fx.Node | None, expand: fx.Node) -> Gate:
    first = [] if reduce is None else list(flow.module(reduce).parameters())
    second = list(flow.module(expand).parameters())
    weights = sum(p.numel() for p in (*first, *second) if p.dim() > 1)
    return Gate(
        reduce=None if reduce is None else str(reduce.target),
        expand=str(expand.target),
        parameters=weights + sum(p.numel() for p in second if p.dim() == 1),
        other_parameters=sum(p.numel() for p in first if p.dim() == 1),
        macs=weights,
    )
