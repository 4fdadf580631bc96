"""A slot with its neighbours as a network of its own, so that each candidate is timed in place.

It holds the nodes of the traced model from the slot's first conv to its last module, and what a
runtime would fuse with that: an activation, or the add at the end of a residual block. A pointwise
conv stands for the layer before and one for the layer after. So the slot meets its data in the
layout that a runtime gives to the data between convs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import fx, nn

from refiner.core.digests import digest
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.graph.skips import Flow
from refiner.graph.slots import Slot

_CONVS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
STUB_CHANNELS = 16
"""Channels beyond the pointwise convs that stand for other layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbourhood:
    """A slot as a network of its own."""

    network: fx.GraphModule
    """It holds the modules of the traced model under their own names."""
    example: tuple[torch.Tensor, ...]
    """Random inputs, with as many samples as the traced model's example."""
    key: str
    """Digest of the operations and shapes. Equal keys take equal times."""


def neighbourhood(traced: fx.GraphModule, flow: Flow, slot: Slot) -> Neighbourhood:
    """Return a slot with its neighbours.

    A slot that cannot run by itself, since it reads a list for example, is returned alone: its
    convs and what comes after them in a row, an activation after each.

    Args:
        traced: the traced model.
        flow: its data flow in eval mode.
        slot: one of its slots.
    """
    inside = _inside(flow, slot)
    try:
        found = _cut_out(traced, flow, inside)
        with torch.no_grad():
            copied(found.network)(*found.example)
    except Exception:  # whatever operations of the model raise
        return _alone(flow, slot)
    return found


def _cut_out(traced: fx.GraphModule, flow: Flow, inside: Sequence[fx.Node]) -> Neighbourhood:
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    holds: dict[str, Any] = {}
    example: list[torch.Tensor] = []
    for node in _outside(inside):
        if node.op == "get_attr":
            copies[node] = graph.node_copy(node)
            holds[str(node.target)] = attrgetter(str(node.target))(traced)
            continue
        copies[node] = graph.placeholder(f"input_{len(example)}")
        shape = tuple(node.meta["shape"])
        if len(shape) > 2:
            name, spatial = f"before_{len(example)}", shape[2:]
            holds[name] = _pointwise(STUB_CHANNELS, shape[1], len(spatial))
            copies[node] = graph.call_module(name, (copies[node],))
            shape = (shape[0], STUB_CHANNELS, *spatial)
        example.append(_values(shape, len(example)))
    for node in inside:
        copies[node] = graph.node_copy(node, lambda n: copies[n])
        if node.op == "call_module":
            holds[str(node.target)] = flow.module(node)
    last, shape = copies[inside[-1]], inside[-1].meta["shape"]
    if len(shape) > 2:
        holds["after"] = _pointwise(shape[1], STUB_CHANNELS, len(shape) - 2)
        last = graph.call_module("after", (last,))
    graph.output(last)
    network = fx.GraphModule(holds, graph).eval()
    return Neighbourhood(network=network, example=tuple(example), key=_key(flow, inside))


def _alone(flow: Flow, slot: Slot) -> Neighbourhood:
    """Return the convs and norms of a slot in a row; each conv reads what the one before gives."""
    graph, holds = fx.Graph(), dict[str, Any]()
    (conv,) = [n for n in flow.convs if n.target == slot.sites[0].conv][:1]
    first = flow.inputs[conv][0].meta["shape"]
    node = graph.placeholder("input_0")
    for site in slot.sites:
        for name in (site.conv, *site.after):
            holds[name] = flow.modules[name]
            node = graph.call_module(name, (node,))
        node = graph.call_function(torch.relu, (node,))
    graph.output(node)
    network = fx.GraphModule(holds, graph).eval()
    key = digest([f"alone {first}", *(str(module) for module in holds.values())])
    return Neighbourhood(network=network, example=(_values(first, 0),), key=key)


def _inside(flow: Flow, slot: Slot) -> list[fx.Node]:
    """Return the nodes of a slot and those that are fused with its end, in their order."""
    ends = [node for node in flow.nodes if node.op == "call_module" and node.target in slot.modules]
    inside = {
        node
        for node in flow.nodes
        if any(flow.reaches(start, node) for start in ends)
        and any(flow.reaches(node, end) for end in ends)
    }
    (last,) = [node for node in ends if node.target == slot.output]
    live, joined = flow.live(), False
    while True:
        readers = [node for node in last.users if node in live]
        if len(readers) != 1 or readers[0].meta.get("shape") != last.meta["shape"]:
            break
        (reader,) = readers
        joins = len(flow.inputs[reader]) > 1
        if flow.calls_conv(reader) or (joins and joined):
            break
        joined = joined or joins
        inside.add(reader)
        last = reader
    return [node for node in flow.nodes if node in inside]


def _outside(inside: Sequence[fx.Node]) -> list[fx.Node]:
    """Return the nodes that those inside read, in their order."""
    read = dict.fromkeys(source for node in inside for source in node.all_input_nodes)
    return [node for node in read if node not in set(inside)]


def _pointwise(inputs: int, outputs: int, dimensions: int) -> nn.Module:
    with seeded(0):
        return _CONVS[dimensions](inputs, outputs, 1).eval()


def _values(shape: Sequence[int], seed: int) -> torch.Tensor:
    with seeded(seed):
        return torch.randn(*shape)


def _key(flow: Flow, inside: Sequence[fx.Node]) -> str:
    """Return a digest of what the nodes are, how they are wired, and the shapes of their data."""
    outside = _outside(inside)
    names = {node: f"%{i}" for i, node in enumerate((*outside, *inside))}
    lines = [f"{node.op == 'get_attr'} {node.meta.get('shape')}" for node in outside]
    for node in inside:
        what = flow.module(node) if node.op == "call_module" else node.target
        wiring = fx.node.map_arg((node.args, node.kwargs), lambda n: names[n])
        lines.append(f"{what} {wiring} {node.meta.get('shape')}")
    return digest(lines)
