"""What a drawing of a network shows: slots, frozen convs, joins and skip connections.

Only inputs, convs, joins of several of them, and the output are drawn. Modules between them, such
as norms and activations, belong to the edge. Data flows down. Convs that the example input does not
reach stand alone at the bottom. :mod:`refiner.runs.drawing_svg` turns it into SVG.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TypeAlias

from torch import fx

from refiner.core.errors import RunError, one_line
from refiner.core.types import JsonDict
from refiner.graph.skips import Flow
from refiner.space.search_space import SearchSpace

KINDS = ("slot", "frozen", "join", "end")

_NodeEdge: TypeAlias = tuple[fx.Node, fx.Node]


@dataclass(slots=True)
class Box:
    """A conv, a join, an input or the output."""

    kind: str
    """One of ``KINDS``."""
    lines: tuple[str, ...]
    title: str
    slot: str | None = None
    """Name of the slot that a conv belongs to."""
    layer: int = 0
    """The longest path from an input."""
    column: float = 0.0


@dataclass(frozen=True, slots=True)
class Edge:
    """Data that flows from one box to another, by their numbers."""

    start: int
    end: int
    skip: bool
    """Whether it is a skip connection, or one of the two parts around its projection."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes in the order of the graph, and the edges between them."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]

    def to_json(self) -> JsonDict:
        """Return a document that :meth:`from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: JsonDict) -> "Drawing":
        """Return the drawing that a document holds.

        Raises:
            RunError: it is damaged.
        """
        try:
            boxes = tuple(_read_box(each) for each in document["boxes"])
            edges = tuple(
                Edge(int(each["start"]), int(each["end"]), bool(each["skip"]))
                for each in document["edges"]
            )
            if not all(0 <= end < len(boxes) for e in edges for end in (e.start, e.end)):
                raise ValueError("an edge without a box")
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise RunError(
                f"network.json is damaged: {one_line(error)}. Delete it; the report is then "
                "written without the drawing."
            ) from error
        return cls(boxes, edges)


_MOST = 100_000
"""Layers or columns beyond which a drawing is damaged."""


def _read_box(each: JsonDict) -> Box:
    box = Box(
        kind=str(each["kind"]),
        lines=(str(each["lines"][0]), *map(str, each["lines"][1:2])),
        title=str(each["title"]),
        slot=None if each["slot"] is None else str(each["slot"]),
        layer=int(each["layer"]),
        column=float(each["column"]),
    )
    if box.kind not in KINDS or not 0 <= box.layer < _MOST or not math.fabs(box.column) < _MOST:
        raise ValueError(f"a box of kind {box.kind!r:.40} at {box.layer}, {box.column}")
    return box


def network_drawing(traced: fx.GraphModule, space: SearchSpace) -> Drawing:
    """Return the drawing of a traced model and its search space.

    Args:
        traced: what :func:`refiner.trace` returned for the model.
        space: what :func:`refiner.search_space` returned for it.
    """
    flow = Flow(traced)
    drawn, edges = _reduced(flow)
    boxes = {node: _box(flow, node, space) for node in drawn}
    output = next(node for node in traced.graph.nodes if node.op == "output")
    last = dict.fromkeys(
        drawn_at for n in output.all_input_nodes for drawn_at in _at(flow, drawn, n)
    )
    boxes[output] = Box("end", ("output",), "output")
    edges += [(node, output) for node in last]
    shown = {flow.labels[node] for node in drawn}
    unseen = [f for f in space.frozen if f.name not in shown]
    skips = set(_skip_connections(flow, drawn))
    _arrange(boxes, edges)
    below = max(box.layer for box in boxes.values()) + 1
    rest = [
        Box("frozen", (f.name, f.reason), f"{f.name}: {f.reason}", layer=below + i)
        for i, f in enumerate(unseen)
    ]
    numbers = {node: i for i, node in enumerate(boxes)}
    return Drawing(
        (*boxes.values(), *rest),
        tuple(Edge(numbers[a], numbers[b], (a, b) in skips) for a, b in edges),
    )


def _at(flow: Flow, drawn: dict[fx.Node, None], node: fx.Node) -> list[fx.Node]:
    """Return the nearest drawn nodes that a node's data comes from."""
    found: dict[fx.Node, None] = {}
    waiting, seen = [node], set()
    while waiting:
        here = waiting.pop()
        if here in seen or here not in flow.inputs:
            continue
        seen.add(here)
        if here in drawn:
            found[here] = None
        else:
            waiting += flow.inputs[here]
    return list(found)


def _skip_connections(flow: Flow, drawn: dict[fx.Node, None]) -> Iterable[_NodeEdge]:
    """Yield the drawn edges of each skip connection: one, or two around its projection."""
    for edge, (fork, join) in flow.skip_connections():
        projections = [node for node in flow.convs if str(node.target) in edge.convs]
        starts = _at(flow, drawn, fork)
        for node in (*projections, join):
            yield from ((start, node) for start in starts)
            starts = [node]


def _reduced(flow: Flow) -> tuple[dict[fx.Node, None], list[_NodeEdge]]:
    """Return the nodes to draw, in order, and the edges between them."""
    joins = {join for _, (_, join) in flow.skip_connections()}
    drawn: dict[fx.Node, None] = {}
    edges = []
    for node, sources in flow.inputs.items():
        before = dict.fromkeys(a for source in sources for a in _at(flow, drawn, source))
        meets = len(before) > 1 and any(s not in drawn or len(before) > 1 for s in sources)
        if node.op == "placeholder" or flow.calls_conv(node) or node in joins or meets:
            drawn[node] = None
            edges += [(a, node) for a in before]
    return drawn, edges


def _box(flow: Flow, node: fx.Node, space: SearchSpace) -> Box:
    name = flow.labels[node]
    if node.op == "placeholder":
        shape = "x".join(map(str, (node.meta["shape"] or ())[1:]))
        return Box("end", (f"{name} {shape}".strip(),), name)
    if flow.calls_conv(node):
        sites = [(slot, site) for slot in space.slots for site in slot.sites if site.conv == name]
        for slot, site in sites:
            names = space.candidates[space.slots.index(slot)]
            title = f"slot {slot.name}: {', '.join(names)}"
            return Box("slot", (name, str(site.spec)), title, slot.name)
        reason = next((f.reason for f in space.frozen if f.name == name), "frozen")
        return Box("frozen", (name, reason), f"{name}: {reason}")
    return Box("join", (name.rpartition(":")[2].rstrip("_0123456789"),), name)


def _arrange(boxes: dict[fx.Node, Box], edges: Iterable[_NodeEdge]) -> None:
    """Set each box's layer, the longest path from an input, and its column, near its sources."""
    sources: dict[fx.Node, list[fx.Node]] = {node: [] for node in boxes}
    for a, b in edges:
        sources[b].append(a)
    layers: dict[int, list[fx.Node]] = {}
    for node, box in boxes.items():  # in the order of the graph, so sources come first
        box.layer = max((boxes[s].layer + 1 for s in sources[node]), default=0)
        layers.setdefault(box.layer, []).append(node)
    for layer in range(max(layers) + 1):
        nodes = layers[layer]

        def preferred(node: fx.Node) -> float:
            above = [boxes[s].column for s in sources[node]]
            return sum(above) / len(above) if above else 0.0

        nodes.sort(key=preferred)
        middle = sum(map(preferred, nodes)) / len(nodes)
        for i, node in enumerate(nodes):
            boxes[node].column = middle + i - (len(nodes) - 1) / 2
