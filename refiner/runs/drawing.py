"""Draw a network as SVG, with slots, frozen convs, joins and skip connections.

Only inputs, convs, joins of several of them, and the output are drawn. Modules between them, such
as norms and activations, belong to the edge. Data flows down. Skip connections are dashed and bulge
to the side. Convs that the example input does not reach stand alone at the bottom.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

from torch import fx

from refiner.graph.skips import Flow
from refiner.space.search_space import SearchSpace

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 230, 40, 30, 34, 24
_FILL = {"slot": "#cfe3ff", "frozen": "#e4e4e4", "join": "#ffffff", "end": "#ffffff"}
_STROKE = {"slot": "#2b6cb0", "frozen": "#8a8a8a", "join": "#444444", "end": "#444444"}
_SKIP = "#d9480f"
_DASHED = f'stroke="{_SKIP}" stroke-width="2" stroke-dasharray="6 4"'

Edge: TypeAlias = tuple[fx.Node, fx.Node]


@dataclass(slots=True)
class _Box:
    kind: str
    """A key of ``_FILL``."""
    lines: tuple[str, ...]
    title: str
    """Shown when the pointer rests on the box."""
    layer: int = 0
    column: float = 0.0


def network_svg(traced: fx.GraphModule, space: SearchSpace) -> str:
    """Return an SVG document of a traced model and its search space.

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
    boxes[output] = _Box("end", ("output",), "output")
    edges += [(node, output) for node in last]
    shown = {flow.labels[node] for node in drawn}
    unseen = [f for f in space.frozen if f.name not in shown]
    skips = set(_skip_connections(flow, drawn))
    _arrange(boxes, edges)
    below = max(box.layer for box in boxes.values()) + 1
    rest = [
        _Box("frozen", (f.name, f.reason), f"{f.name}: {f.reason}", layer=below + i)
        for i, f in enumerate(unseen)
    ]
    return _document(boxes, rest, edges, skips)


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


def _skip_connections(flow: Flow, drawn: dict[fx.Node, None]) -> Iterable[Edge]:
    """Yield the drawn edges of each skip connection: one, or two around its projection."""
    for edge, (fork, join) in flow.skip_connections():
        projections = [node for node in flow.convs if str(node.target) in edge.convs]
        starts = _at(flow, drawn, fork)
        for node in (*projections, join):
            yield from ((start, node) for start in starts)
            starts = [node]


def _reduced(flow: Flow) -> tuple[dict[fx.Node, None], list[Edge]]:
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


def _box(flow: Flow, node: fx.Node, space: SearchSpace) -> _Box:
    name = flow.labels[node]
    if node.op == "placeholder":
        shape = "x".join(map(str, (node.meta["shape"] or ())[1:]))
        return _Box("end", (f"{name} {shape}".strip(),), name)
    if flow.calls_conv(node):
        sites = [(slot, site) for slot in space.slots for site in slot.sites if site.conv == name]
        for slot, site in sites:
            names = space.candidates[space.slots.index(slot)]
            return _Box("slot", (name, str(site.spec)), f"slot {slot.name}: {', '.join(names)}")
        reason = next((f.reason for f in space.frozen if f.name == name), "frozen")
        return _Box("frozen", (name, reason), f"{name}: {reason}")
    return _Box("join", (name.rpartition(":")[2].rstrip("_0123456789"),), name)


def _arrange(boxes: dict[fx.Node, _Box], edges: Iterable[Edge]) -> None:
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


@dataclass(frozen=True, slots=True)
class _Canvas:
    """Pixels of boxes; the leftmost column and the right margin depend on the network."""

    left: float
    width: float
    height: int

    @classmethod
    def of(cls, boxes: list[_Box], skips: list[tuple[_Box, _Box]]) -> "_Canvas":
        columns = [box.column for box in boxes]
        bulge = max((_bulge(above, below) for above, below in skips), default=0)
        width = (max(columns) - min(columns) + 1) * (_WIDTH + _GAP_X) + 2 * _MARGIN + bulge
        layers = max(box.layer for box in boxes) + 1
        height = layers * (_HEIGHT + _GAP_Y) + 2 * _MARGIN + 30
        return cls(min(columns), max(480, width), height)

    def centre(self, box: _Box) -> tuple[float, float]:
        """Return the x and y of a box's centre."""
        x = _MARGIN + (box.column - self.left + 0.5) * (_WIDTH + _GAP_X)
        return x, _MARGIN + 30 + box.layer * (_HEIGHT + _GAP_Y) + _HEIGHT / 2


def _document(
    boxes: dict[fx.Node, _Box], rest: list[_Box], edges: list[Edge], skips: set[Edge]
) -> str:
    every = [*boxes.values(), *rest]
    canvas = _Canvas.of(every, [(boxes[a], boxes[b]) for a, b in skips])
    width, height = f"{canvas.width:.0f}", f"{canvas.height:.0f}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" '
        'markerHeight="5" orient="auto"><path d="M0 0L8 4L0 8z" fill="context-stroke"/>'
        "</marker></defs>",
        '<rect width="100%" height="100%" fill="white"/>',
        _legend(),
    ]
    lines += [_edge(canvas, boxes[a], boxes[b], skip=(a, b) in skips) for a, b in edges]
    lines += [line for box in every for line in _drawn_box(canvas, box)]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _edge(canvas: _Canvas, above: _Box, below: _Box, *, skip: bool) -> str:
    """Return the path of an edge: a curve around boxes that may lie between, else a line."""
    (x1, y1), (x2, y2) = canvas.centre(above), canvas.centre(below)
    if skip or below.layer - above.layer > 1:
        side = max(x1, x2) + _WIDTH / 2 + (_bulge(above, below) if skip else 20)
        x1, x2 = x1 + _half(above), x2 + _half(below)
        path = f"M{x1:.0f} {y1:.0f}C{side:.0f} {y1:.0f} {side:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
    else:
        path = f"M{x1:.0f} {y1 + _HEIGHT / 2:.0f}L{x2:.0f} {y2 - _HEIGHT / 2:.0f}"
    style = _DASHED if skip else 'stroke="#555"'
    return f'<path d="{path}" fill="none" {style} marker-end="url(#tip)"/>'


def _drawn_box(canvas: _Canvas, box: _Box) -> list[str]:
    """Return the lines of a box's SVG group: its title, its rectangle and its texts."""
    x, y = canvas.centre(box)
    half = _half(box)
    lines = [
        f"<g><title>{escape(box.title)}</title>"
        f'<rect x="{x - half:.0f}" y="{y - _HEIGHT / 2:.0f}" width="{2 * half:.0f}" '
        f'height="{_HEIGHT}" rx="{_HEIGHT / 2 if box.kind == "join" else 6}" '
        f'fill="{_FILL[box.kind]}" stroke="{_STROKE[box.kind]}"/>'
    ]
    for i, text in enumerate(map(_cut, box.lines)):
        line_y = y + 4 + (i - (len(box.lines) - 1) / 2) * 15
        lines.append(
            f'<text x="{x:.0f}" y="{line_y:.0f}" text-anchor="middle">{escape(text)}</text>'
        )
    return [*lines, "</g>"]


def _bulge(above: _Box, below: _Box) -> float:
    """Return how far a skip connection keeps off the boxes; a longer one keeps further off."""
    return 60 + min(200, 12 * (below.layer - above.layer))


def _half(box: _Box) -> float:
    return 30 if box.kind == "join" else _WIDTH / 2


def _cut(text: str) -> str:
    return text if len(text) <= 36 else f"{text[:16]}...{text[-17:]}"


def _legend() -> str:
    items = [("slot", "slot"), ("frozen", "frozen conv"), ("join", "join")]
    parts = []
    for i, (kind, text) in enumerate(items):
        x = _MARGIN + 110 * i
        parts.append(
            f'<rect x="{x}" y="12" width="14" height="14" rx="3" fill="{_FILL[kind]}" '
            f'stroke="{_STROKE[kind]}"/><text x="{x + 20}" y="23">{text}</text>'
        )
    x = _MARGIN + 110 * len(items)
    parts.append(
        f'<path d="M{x} 19h30" {_DASHED}/><text x="{x + 36}" y="23">skip connection</text>'
    )
    return "".join(parts)
