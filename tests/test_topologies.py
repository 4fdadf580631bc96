"""Slots and skip connections of networks of many shapes, against what a person reads in their papers."""

from collections import Counter

import pytest
import timm
import torch
from models import UNet, images
from torch import nn

from refiner.graph.slots import SlotTable, find_slots
from refiner.graph.tracing import trace


def table(model: nn.Module, size: int) -> SlotTable:
    with torch.device("meta"):
        x = torch.empty(2, 3, size, size)
    return find_slots(trace(model, x))


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name)


def reasons(found: SlotTable) -> Counter[str]:
    return Counter(f.reason.split(":")[0].split(" to ")[0] for f in found.frozen)


def edges(found: SlotTable) -> set[tuple[str, str]]:
    return {(edge.fork, edge.join) for edge in found.skips}


BOTTLENECKS = [f"{s}.{b}" for s, n in ((0, 3), (1, 4), (2, 6), (3, 3)) for b in range(n)]


def test_resnet50() -> None:
    found = table(on_meta("resnet50"), 64)
    blocks = [f"layer{int(b[0]) + 1}{b[1:]}" for b in BOTTLENECKS]
    assert [s.name for s in found.slots] == [f"{b}.conv2" for b in blocks]
    assert [e.join for e in found.skips] == [f"{b}:add" for b in blocks]
    projected = [e.convs for e in found.skips if e.convs]
    assert projected == [(f"layer{i}.0.downsample.0",) for i in (1, 2, 3, 4)]
    assert reasons(found) == {
        "stem": 1,
        "pointwise conv": 32,
        "projection on the skip connection": 4,
    }


def test_pre_activation_resnetv2_50() -> None:
    found = table(on_meta("resnetv2_50"), 64)
    blocks = [f"stages.{b[0]}.blocks{b[1:]}" for b in BOTTLENECKS]
    assert [s.name for s in found.slots] == [f"{b}.conv2" for b in blocks]
    assert [e.join for e in found.skips] == [f"{b}:add" for b in blocks]
    # The first block of a stage forks after its norm, the others before it.
    assert found.skips[0].fork == "stages.0.blocks.0.norm1"
    assert found.skips[1].fork == "stages.0.blocks.0:add"
    assert [e.convs != () for e in found.skips] == [b.endswith(".0") for b in BOTTLENECKS]


def test_densenet121() -> None:
    found = table(on_meta("densenet121"), 64)
    layers = [f"features.denseblock{b}.denselayer{i + 1}"
              for b, n in ((1, 6), (2, 12), (3, 24), (4, 16)) for i in range(n)]  # fmt: skip
    assert [s.name for s in found.slots] == [f"{layer}.conv2" for layer in layers]
    first = "features.denseblock1"
    assert {e for e in edges(found) if e[1] == f"{first}.denselayer3:cat"} == {
        ("features.pool0", f"{first}.denselayer3:cat"),
        (f"{first}.denselayer1.conv2", f"{first}.denselayer3:cat"),
    }
    assert all(e.convs == () for e in found.skips)


def test_inception_v3_has_branches_and_pools_round_them() -> None:
    found = table(on_meta("inception_v3"), 96)
    names = [s.name for s in found.slots]
    assert "Mixed_6b.branch7x7_2.conv" in names  # 1x7
    assert {"Mixed_5b.branch5x5_2.conv", "Mixed_7a.branch3x3_2.conv"} <= set(names)
    assert reasons(found) == {"stem": 1, "pointwise conv": 40}
    assert edges(found) == {("Mixed_5d:cat", "Mixed_6a:cat"), ("Mixed_6e:cat", "Mixed_7a:cat")}


def test_hrnet_keeps_its_residual_and_its_multi_scale_joins() -> None:
    found = table(on_meta("hrnet_w18_small"), 64)
    assert ("transition1.0.2", "stage2.0.branches.0.0:add") in edges(found)
    assert ("stage2.0.branches.1.0.act2", "stage2.0.branches.1.1:add") in edges(found)
    names = {s.name for s in found.slots}
    assert {"layer1.0.conv2", "transition1.0.0", "stage2.0.fuse_layers.1.0.0.0"} <= names
    assert "layer1.0.downsample.0" not in names


def test_convnext_has_one_skip_a_block() -> None:
    found = table(on_meta("convnext_atto"), 64)
    blocks = [f"stages.{s}.blocks.{b}" for s, n in enumerate((2, 2, 6, 2)) for b in range(n)]
    assert [e.join for e in found.skips] == [f"{b}:add" for b in blocks]
    depthwise = [s.name for s in found.slots if s.name.endswith("conv_dw")]
    assert depthwise == [f"{b}.conv_dw" for b in blocks]


def test_efficientnet_has_a_gate_a_block_and_a_skip_where_shapes_stay() -> None:
    found = table(on_meta("efficientnet_b0"), 64)
    repeats = (1, 2, 2, 3, 3, 4, 1)
    blocks = [f"blocks.{s}.{b}" for s, n in enumerate(repeats) for b in range(n)]
    assert [s.name for s in found.slots] == [f"{b}.conv_dw" for b in blocks]
    assert sum(e.join.endswith(".se:mul") for e in found.skips) == len(blocks)
    residual = [e.join for e in found.skips if e.join.endswith(":add")]
    assert residual == [f"{b}:add" for b in blocks if not b.endswith(".0")]


def test_dla34_aggregates_over_trees() -> None:
    found = table(on_meta("dla34"), 64)
    assert {("level1.2", "level2.tree1:add"), ("level2.tree1.relu_1", "level2.root:cat")} <= edges(
        found
    )
    assert reasons(found)["projection on the skip connection"] == 4
    assert all(s.name.split(".")[-1] in ("conv1", "conv2", "0") for s in found.slots)


def test_unet_joins_each_level_with_what_went_down() -> None:
    found = find_slots(trace(UNet(), images(size=16)))
    assert [s.name for s in found.slots] == [
        "down1.3", "down2.0", "down2.3", "bottom.0", "bottom.3", "up2.0", "up2.3", "up1.0", "up1.3",
    ]  # fmt: skip
    assert edges(found) == {("down2.5", "cat"), ("down1.5", "cat_1")}


@pytest.mark.parametrize("name", ["shufflenet", "cross stage partial"])
def test_shuffles_and_partial_stages(name: str) -> None:
    if name == "shufflenet":
        import torchvision

        with torch.device("meta"):
            model = torchvision.models.shufflenet_v2_x0_5()
        found = table(model, 64)
        # Half of the channels goes round a unit, but where a unit strides both halves have convs.
        joins = Counter(e.join for e in found.skips)
        assert joins == {
            f"stage{s}.{u}:cat": 1 for s, n in ((2, 4), (3, 8), (4, 4)) for u in range(1, n)
        }
    else:
        found = table(on_meta("cspresnet50"), 64)
        assert sum(e.join.endswith(":add") for e in found.skips) == 3 + 3 + 5 + 2
        assert all(not s.name.endswith("conv_transition_b.conv") for s in found.slots)
