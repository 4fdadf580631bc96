from xml.etree import ElementTree

import timm
import torch
from models import TinyResNet, images
from torch import nn

from refiner.graph.tracing import trace
from refiner.runs.drawing import network_svg
from refiner.space.search_space import search_space

SVG = "{http://www.w3.org/2000/svg}"


def drawn(model: nn.Module, x: torch.Tensor) -> ElementTree.Element:
    return ElementTree.fromstring(network_svg(trace(model, x), search_space(model, x)))


def titles(svg: ElementTree.Element, colour: str) -> list[str]:
    groups = [g for g in svg.iter(f"{SVG}g") if g.find(f"{SVG}rect").get("fill") == colour]
    return [g.find(f"{SVG}title").text for g in groups]


def test_slots_frozen_convs_joins_and_skips_look_different() -> None:
    svg = drawn(TinyResNet(), images())
    assert [t.split(":")[0] for t in titles(svg, "#cfe3ff")] == [
        "slot block1.conv1", "slot block1.conv2", "slot block2.conv1", "slot block2.conv2",
    ]  # fmt: skip
    assert [t.split(":")[0] for t in titles(svg, "#e4e4e4")] == ["stem", "block2.skip.0"]
    assert titles(svg, "#ffffff") == ["x", "block1:add", "block2:add", "output"]
    dashed = [p for p in svg.findall(f"{SVG}path") if p.get("stroke-dasharray")]
    assert len(dashed) - 1 == 3  # identity, and to and from the projection; one is the legend's


def test_every_conv_is_drawn_once_in_nets_of_other_shapes() -> None:
    for name in ("densenet121", "hrnet_w18_small"):
        model = timm.create_model(name)
        svg = drawn(model, images(size=64))
        convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        assert len(titles(svg, "#cfe3ff")) + len(titles(svg, "#e4e4e4")) == len(convs)


def test_convs_that_the_example_does_not_reach_are_drawn_below() -> None:
    class Unused(TinyResNet):
        def __init__(self) -> None:
            super().__init__()
            self.spare = nn.Conv2d(3, 3, 3)

    found = titles(drawn(Unused(), images()), "#e4e4e4")
    assert found[-1] == "spare: not called on the example input"
