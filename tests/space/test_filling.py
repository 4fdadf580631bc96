from dataclasses import replace

import pytest
import timm
import torch
from models import TinyResNet, images
from torch import nn

from refiner.core.errors import ArchitectureError
from refiner.cost.costs import slot_costs
from refiner.space.candidates import ORIGINAL
from refiner.space.filling import fill, filling
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def bottleneck():
    """Return modules and space of a network whose first slot is conv1x1, conv3x3, conv1x1."""
    model = timm.create_model("resnet50")
    return dict(model.named_modules()), search_space(model, images(size=64), granularity="group")


def test_an_operation_takes_the_place_of_the_convs_of_a_group_that_it_suits() -> None:
    modules, space = bottleneck()
    slot = space.slots[0]
    # Of a pointwise conv a depthwise conv3x3 before it would only be larger.
    assert filling(slot, "depthwise3x3").operations == (ORIGINAL, "depthwise3x3", ORIGINAL)
    assert filling(slot, "lowrank2").operations == ("lowrank2",) * 3
    filled = fill(slot, "depthwise3x3", modules, lambda _: 0)
    assert list(filled) == ["layer1.0.conv2"]
    assert isinstance(filled["layer1.0.conv2"], nn.Sequential)


def test_a_pruning_puts_convs_and_norms_and_the_original_nothing() -> None:
    modules, space = bottleneck()
    filled = fill(space.slots[0], "keep0.5", modules, lambda _: 0)
    assert {name: tuple(m.weight.shape) for name, m in filled.items()} == {
        "layer1.0.conv1": (32, 64, 1, 1),
        "layer1.0.bn1": (32,),
        "layer1.0.conv2": (32, 32, 3, 3),
        "layer1.0.bn2": (32,),
        "layer1.0.conv3": (256, 32, 1, 1),
    }
    assert fill(space.slots[0], ORIGINAL, modules, lambda _: 0) == {}


def test_what_is_counted_is_what_is_built() -> None:
    modules, space = bottleneck()
    costs = slot_costs(space)
    for slot, names, row in zip(space.slots[:4], space.candidates, costs, strict=False):
        for name, cost in zip(names, row, strict=True):
            held = modules | fill(slot, name, modules, lambda _: 0)
            assert cost.params == sum(parameters(held[module]) for module in slot.modules), name


def test_a_group_has_an_operation_that_is_larger_where_larger_ones_are_allowed() -> None:
    model, x = TinyResNet(), images()
    options = {"granularity": "group", "candidates": ["conv5x5", "keep0.5"]}
    assert search_space(model, x, **options).candidates == (("original", "keep0.5"),) * 2
    space = search_space(model, x, **options, allow_larger=True)
    assert space.candidates == (("original", "conv5x5", "keep0.5"),) * 2
    larger = rewrite(model, space.architecture((1, 0)))
    assert larger.block1.conv2.kernel_size == (5, 5)
    assert larger(x).shape == model(x).shape


def test_a_pruning_of_what_is_no_group_is_refused() -> None:
    model, x = TinyResNet(), images()
    space = search_space(model, x, candidates=["depthwise3x3"])
    wrong = replace(space.architecture((1, 0, 0, 0)), candidates=(("original", "keep0.5"),) * 4)
    with pytest.raises(ArchitectureError, match="slot block1.conv1 is not a channel group"):
        rewrite(model, wrong)


def test_seeds_are_those_of_each_conv() -> None:
    model = TinyResNet()
    space = search_space(model, images(), granularity="block", candidates=["depthwise3x3"])
    modules = dict(model.named_modules())
    first = fill(space.slots[0], "depthwise3x3", modules, lambda i: i)
    again = fill(space.slots[0], "depthwise3x3", modules, lambda i: 1 - i)
    a, b = (made["block1.conv1"][0].weight for made in (first, again))
    assert not torch.equal(a, b)
    assert torch.equal(a, again["block1.conv2"][0].weight)
