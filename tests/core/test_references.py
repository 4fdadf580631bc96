import functools
import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from refiner.core.references import attributes, references


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)


@dataclass(slots=True)
class Slotted:
    held: object


def paths(net: nn.Module, value: object) -> list[tuple[str, str]]:
    return [(each.path, each.via) for each in references(net) if each.value is value]


def enclosing(value):
    return lambda: value


def default(value):
    def keep(held=value):
        return held

    return keep


def cached(value):
    return functools.lru_cache(enclosing(value))


@pytest.mark.parametrize(
    ("hold", "path", "via"),
    [
        (lambda v: [0, v], "Net.extra[1]", ""),
        (lambda v: {"a": (v,)}, "Net.extra['a'][0]", ""),
        (lambda v: {v}, "Net.extra[0]", ""),
        (lambda v: Slotted(v), "Net.extra.held", ""),
        (lambda v: functools.partial(print, v), "Net.extra", ""),
        (lambda v: v.forward, "Net.extra", ""),
        (lambda v: nn.ModuleList([v]), "", ""),
        (weakref.ref, "Net.extra", "a weak reference"),
        (enclosing, "Net.extra", "a lambda"),
        (default, "Net.extra", "the function keep"),
        (cached, "Net.extra.__wrapped__", "a lambda"),
        (lambda v: [{"f": enclosing([v])}], "Net.extra[0]['f'][0]", "a lambda"),
    ],
)
def test_the_way_to_a_value_is_found(hold, path: str, via: str) -> None:
    net = Net()
    net.extra = hold(net.conv)
    assert paths(net, net.conv) == ([(path, via)] if path else [])


def test_hooks_are_named_after_their_module() -> None:
    net = Net()
    net.conv.register_forward_hook(lambda *_: print(net))
    assert paths(net, net) == [("a forward hook of conv", "a lambda")]


def test_a_global_that_a_function_names_is_found() -> None:
    net = Net()
    space = {"held": net.conv}
    exec("def reads(x):\n    return held(x)\ndef deep(x):\n    return reads(x)", space)
    net.extra = space["deep"]
    assert paths(net, net.conv) == [("Net.extra", "the function deep")]


def test_circles_end_and_tensors_of_hidden_modules_are_listed() -> None:
    net, hidden = Net(), nn.Linear(2, 2)
    net.extra = [hidden]
    net.extra.append(net.extra)
    assert paths(net, hidden.weight) == [("Net.extra[0].weight", "")]
    assert not paths(net, net.conv.weight)


def test_attributes_in_slots_and_dicts() -> None:
    class Both(Slotted):
        pass

    both = Both(1)
    both.other = torch.float32
    assert dict(attributes(both)) == {"held": 1, "other": torch.float32}
