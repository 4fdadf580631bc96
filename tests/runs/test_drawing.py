import json

import pytest
import timm
import torch
from models import TinyResNet, images
from torch import nn

from refiner.core.errors import RunError
from refiner.graph.tracing import trace
from refiner.runs.drawing import Drawing, network_drawing
from refiner.space.search_space import search_space


def drawn(model: nn.Module, x: torch.Tensor) -> Drawing:
    return network_drawing(trace(model, x), search_space(model, x))


def titles(drawing: Drawing, *kinds: str) -> list[str]:
    return [box.title for box in drawing.boxes if box.kind in kinds]


def test_slots_frozen_convs_joins_and_skips_are_told_apart() -> None:
    drawing = drawn(TinyResNet(), images())
    slots = ["block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2"]
    assert [box.slot for box in drawing.boxes if box.kind == "slot"] == slots
    assert [t.split(":")[0] for t in titles(drawing, "frozen")] == ["stem", "block2.skip.0"]
    assert titles(drawing, "join", "end") == ["x", "block1:add", "block2:add", "output"]
    assert sum(e.skip for e in drawing.edges) == 3  # identity, and to and from the projection


def test_every_conv_is_drawn_once_in_nets_of_other_shapes() -> None:
    for name in ("densenet121", "hrnet_w18_small"):
        model = timm.create_model(name)
        convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        assert len(titles(drawn(model, images(size=64)), "slot", "frozen")) == len(convs)


def test_convs_that_the_example_does_not_reach_are_drawn_below() -> None:
    class Unused(TinyResNet):
        def __init__(self) -> None:
            super().__init__()
            self.spare = nn.Conv2d(3, 3, 3)

    last = drawn(Unused(), images()).boxes[-1]
    assert last.title == "spare: not called on the example input"
    assert last.layer > max(box.layer for box in drawn(TinyResNet(), images()).boxes)


def test_a_drawing_is_kept_as_json_and_a_damaged_one_refused() -> None:
    drawing = drawn(TinyResNet(), images())
    document = json.loads(json.dumps(drawing.to_json()))
    assert Drawing.from_json(document) == drawing
    box = document["boxes"][0]
    for wrong in (
        {},
        {"boxes": [], "edges": [{"start": 0, "end": 0, "skip": False}]},
        {"boxes": [box | {"kind": "x"}], "edges": []},
        {"boxes": [box | {"layer": 10**9}], "edges": []},
        {"boxes": [box | {"lines": []}], "edges": []},
        {"boxes": [box | {"column": "left"}], "edges": []},
    ):
        with pytest.raises(RunError, match=r"network\.json is damaged"):
            Drawing.from_json(wrong)
