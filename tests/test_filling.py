import timm
import torch
from models import TinyResNet, images
from torch import nn

from refiner.candidates import ORIGINAL
from refiner.filling import fill, site_operations, slot_sites
from refiner.space import search_space


def bottleneck():
    """Return the modules and the space of a network whose first slot is conv1x1, conv3x3, conv1x1."""
    model = timm.create_model("resnet50")
    return dict(model.named_modules()), search_space(model, images(size=64), granularity="chain")


def test_an_operation_takes_the_place_of_the_convs_of_a_chain_that_it_suits() -> None:
    modules, space = bottleneck()
    slot = space.slots[0]
    # Of a pointwise conv a depthwise conv3x3 before it would only be larger.
    assert site_operations(slot, "depthwise3x3") == (ORIGINAL, "depthwise3x3", ORIGINAL)
    assert site_operations(slot, "lowrank2") == ("lowrank2",) * 3
    filled = fill(slot, "depthwise3x3", modules, lambda _: 0)
    assert list(filled) == ["layer1.0.conv2"]
    assert isinstance(filled["layer1.0.conv2"], nn.Sequential)


def test_a_narrowing_puts_convs_and_norms_and_the_original_nothing() -> None:
    modules, space = bottleneck()
    filled = fill(space.slots[0], "narrow4", modules, lambda _: 0)
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
    for slot, names in zip(space.slots[:4], space.candidates, strict=False):
        for name in names[1:]:
            filled = fill(slot, name, modules, lambda _: 0)
            for (operation, site), was in zip(slot_sites(slot, name), slot.sites, strict=True):
                made = filled.get(site.conv, modules[site.conv])
                if operation == ORIGINAL:
                    assert made.weight.shape[:2] == (site.spec.out_channels, site.spec.in_channels)
                else:
                    assert site == was


def test_seeds_are_those_of_each_conv() -> None:
    model = TinyResNet()
    space = search_space(model, images(), granularity="block", candidates=["depthwise3x3"])
    modules = dict(model.named_modules())
    first = fill(space.slots[0], "depthwise3x3", modules, lambda i: i)
    again = fill(space.slots[0], "depthwise3x3", modules, lambda i: 1 - i)
    a, b = (made["block1.conv1"][0].weight for made in (first, again))
    assert not torch.equal(a, b)
    assert torch.equal(a, again["block1.conv2"][0].weight)
