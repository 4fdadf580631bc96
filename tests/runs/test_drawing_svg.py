from xml.etree import ElementTree

from models import TinyResNet, images

from refiner.graph.tracing import trace
from refiner.runs.drawing import Box, Drawing, network_drawing
from refiner.runs.drawing_svg import drawing_element, drawing_svg
from refiner.space.search_space import search_space

SVG = "{http://www.w3.org/2000/svg}"


def drawing() -> Drawing:
    model, x = TinyResNet(), images()
    return network_drawing(trace(model, x), search_space(model, x))


def groups(svg: str, kind: str) -> list[ElementTree.Element]:
    found = ElementTree.fromstring(svg).iter("g")
    return [g for g in found if g.get("class") == kind and g.find("title") is not None]


def test_each_box_is_drawn_and_skip_connections_are_dashed() -> None:
    svg = drawing_element(drawing())
    assert [len(groups(svg, f"net-{kind}")) for kind in ("slot", "frozen", "join", "end")] == [
        4,
        2,
        2,
        2,
    ]
    dashed = [p for p in ElementTree.fromstring(svg).findall("path") if p.get("stroke-dasharray")]
    assert len(dashed) - 1 == 3  # one is the legend's
    assert "replaced" not in svg


def test_replaced_slots_show_what_they_have() -> None:
    svg = drawing_element(drawing(), {"block1.conv1": "keep0.5", "block1.conv2": "original"})
    (box,) = groups(svg, "net-replaced")
    assert box.find("title").text == "slot block1.conv1: keep0.5"
    assert [text.text for text in box.findall("text")] == ["block1.conv1", "keep0.5"]
    assert len(groups(svg, "net-slot")) == 3


def test_texts_are_escaped_and_an_empty_drawing_holds() -> None:
    svg = drawing_svg(Drawing((Box("slot", ("<b>", "&"), "<script>"),), ()))
    assert "<script>" not in svg
    assert "<b>" not in svg
    assert ElementTree.fromstring(drawing_svg(Drawing((), ()))).tag == f"{SVG}svg"
