"""A drawing of a network as SVG: skip connections are dashed and bulge to the side."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape

from refiner.runs.drawing import Box, Drawing
from refiner.space.candidates import ORIGINAL

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 230, 40, 30, 34, 24
_FILL = {
    "slot": "#cfe3ff",
    "replaced": "#ffd8a8",
    "frozen": "#e4e4e4",
    "join": "#ffffff",
    "end": "#ffffff",
}
_STROKE = {
    "slot": "#2b6cb0",
    "replaced": "#d9480f",
    "frozen": "#8a8a8a",
    "join": "#444444",
    "end": "#444444",
}
_LEGEND = {"slot": "slot", "replaced": "replaced", "frozen": "frozen conv", "join": "join"}
_LEGEND_WIDTH = 600
_NAMESPACE = "http://www.w3.org/2000/svg"
_DASHED = 'class="net-skip" stroke="#d9480f" stroke-width="2" stroke-dasharray="6 4"'


def drawing_svg(drawing: Drawing) -> str:
    """Return an SVG document of the original network."""
    return drawing_element(drawing).replace("<svg", f'<svg xmlns="{_NAMESPACE}"', 1)


def drawing_element(drawing: Drawing, operations: Mapping[str, str] | None = None) -> str:
    """Return an SVG element for a page, whose style sheet may colour its classes otherwise.

    Args:
        drawing: of the original network.
        operations: the candidate that each slot has in the refined network, which is drawn then.
    """
    boxes = [_refined(box, operations or {}) for box in drawing.boxes]
    skips = [(boxes[e.start], boxes[e.end]) for e in drawing.edges if e.skip]
    canvas = _Canvas.of(boxes, skips)
    width, height = f"{canvas.width:.0f}", f"{canvas.height:.0f}"
    lines = [
        f'<svg width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" '
        'markerHeight="5" orient="auto"><path d="M0 0L8 4L0 8z" fill="context-stroke"/>'
        "</marker></defs>",
        '<rect class="net-paper" width="100%" height="100%" fill="white"/>',
        _legend({box.kind for box in boxes}),
    ]
    lines += [_edge(canvas, boxes[e.start], boxes[e.end], skip=e.skip) for e in drawing.edges]
    lines += [line for box in boxes for line in _drawn_box(canvas, box)]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _refined(box: Box, operations: Mapping[str, str]) -> Box:
    """Return a box with what its slot has in the refined network."""
    operation = operations.get(box.slot or "")
    if operation is None:
        return box
    title = f"slot {box.slot}: {operation}"
    if operation == ORIGINAL:
        return replace(box, title=title)
    return replace(box, kind="replaced", lines=(box.lines[0], operation), title=title)


@dataclass(frozen=True, slots=True)
class _Canvas:
    """Pixels of boxes; the leftmost column and the right margin depend on the network."""

    left: float
    width: float
    height: int

    @classmethod
    def of(cls, boxes: list[Box], skips: list[tuple[Box, Box]]) -> "_Canvas":
        columns = [box.column for box in boxes] or [0.0]
        bulge = max((_bulge(above, below) for above, below in skips), default=0)
        width = (max(columns) - min(columns) + 1) * (_WIDTH + _GAP_X) + 2 * _MARGIN + bulge
        layers = max((box.layer for box in boxes), default=0) + 1
        height = layers * (_HEIGHT + _GAP_Y) + 2 * _MARGIN + 30
        return cls(min(columns), max(_LEGEND_WIDTH, width), height)

    def centre(self, box: Box) -> tuple[float, float]:
        """Return the x and y of a box's centre."""
        x = _MARGIN + (box.column - self.left + 0.5) * (_WIDTH + _GAP_X)
        return x, _MARGIN + 30 + box.layer * (_HEIGHT + _GAP_Y) + _HEIGHT / 2


def _edge(canvas: _Canvas, above: Box, below: Box, *, skip: bool) -> str:
    """Return the path of an edge: a curve around boxes that may lie between, else a line."""
    (x1, y1), (x2, y2) = canvas.centre(above), canvas.centre(below)
    if skip or below.layer - above.layer > 1:
        side = max(x1, x2) + _WIDTH / 2 + (_bulge(above, below) if skip else 20)
        x1, x2 = x1 + _half(above), x2 + _half(below)
        path = f"M{x1:.0f} {y1:.0f}C{side:.0f} {y1:.0f} {side:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
    else:
        path = f"M{x1:.0f} {y1 + _HEIGHT / 2:.0f}L{x2:.0f} {y2 - _HEIGHT / 2:.0f}"
    style = _DASHED if skip else 'class="net-edge" stroke="#555"'
    return f'<path d="{path}" fill="none" {style} marker-end="url(#tip)"/>'


def _drawn_box(canvas: _Canvas, box: Box) -> list[str]:
    """Return the lines of a box's SVG group: its title, its rectangle and its texts."""
    x, y = canvas.centre(box)
    half = _half(box)
    lines = [
        f'<g class="net-{box.kind}"><title>'
        f"{escape(box.title)}</title>"
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


def _bulge(above: Box, below: Box) -> float:
    """Return how far a skip connection keeps off the boxes; a longer one keeps further off."""
    return 60 + min(200, 12 * (below.layer - above.layer))


def _half(box: Box) -> float:
    return 30 if box.kind == "join" else _WIDTH / 2


def _cut(text: str) -> str:
    return text if len(text) <= 36 else f"{text[:16]}...{text[-17:]}"


def _legend(kinds: set[str]) -> str:
    parts, items = [], [(k, text) for k, text in _LEGEND.items() if k != "replaced" or k in kinds]
    for i, (kind, text) in enumerate(items):
        x = _MARGIN + 110 * i
        parts.append(
            f'<g class="net-{kind}"><rect x="{x}" y="12" width="14" height="14" rx="3" '
            f'fill="{_FILL[kind]}" stroke="{_STROKE[kind]}"/>'
            f'<text x="{x + 20}" y="23">{text}</text></g>'
        )
    x = _MARGIN + 110 * len(items)
    parts.append(
        f'<path d="M{x} 19h30" {_DASHED}/><text x="{x + 36}" y="23">skip connection</text>'
    )
    return "".join(parts)
