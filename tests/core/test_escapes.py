import copy
import functools
import weakref

import pytest
import torch
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.escapes import check_escapes
from refiner.core.surgery import copied


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def block(self, x):
        return self.c2(x)

    def forward(self, x):
        return self.branch(self.c1(x))

    def branch(self, x):
        return self.c2(x)


class Shared(nn.Conv2d):
    def __deepcopy__(self, memo):
        return self


def patched(net: Net) -> None:
    def forward(x):
        return nn.Conv2d.forward(net.c2, x)

    net.c2.forward = forward


def enclosed(net: Net) -> None:
    conv = net.c2
    net.branch = lambda x: conv(x)


def features(net: Net) -> None:
    net.kept = {"c1": torch.ones(2, requires_grad=True) * 2}
    net.c1.register_forward_hook(lambda _m, _i, y, kept=net.kept: kept.update(c1=y))


ESCAPES = {
    "Net.branch is a lambda that holds the model: its copy would still call the original's c2. "
    "Make it a method.": lambda net: setattr(net, "branch", lambda x: net.c2(x)),
    "Net.branch is a lambda that holds c2": enclosed,
    "Net.table['a'][0] is a lambda": lambda net: setattr(
        net, "table", {"a": [lambda x: net.c2(x)]}
    ),
    "Net.c2.forward is the function forward that holds the model": patched,
    "Net.c2.parent is a weak reference that holds the model": lambda net: setattr(
        net.c2, "parent", weakref.ref(net)
    ),
    "a forward hook of c1 is a lambda that holds the model: its copy would still call the "
    "original's layers. Register a method": lambda net: net.c1.register_forward_hook(
        lambda _m, _i, y: setattr(net, "kept", y)
    ),
    "a forward hook of c1 is a lambda that holds Net.kept": features,
    "c2 (Shared) stays the original's in a copy": lambda net: setattr(
        net, "c2", Shared(3, 3, 3, padding=1)
    ),
    "Net.read is a lambda that holds c2.weight: its copy would still use the original's c2.weight.":
        lambda net: setattr(net, "read", lambda w=net.c2.weight: w),
}  # fmt: skip


@pytest.mark.parametrize("says", ESCAPES)
def test_what_a_copy_would_use_of_the_original_is_refused_by_name(says: str) -> None:
    net = Net()
    ESCAPES[says](net)
    with pytest.raises(ModelError) as error:
        copied(net)
    assert str(error.value).startswith(says)


def keeps_config(net: Net) -> None:
    net.config = {"size": 3, "names": ["a"]}
    net.size = lambda config=net.config: config["size"]


def keeps_constant(net: Net) -> None:
    mean = torch.ones(1)
    net.mean = mean
    net.centred = lambda x: x - mean


SAFE = [
    lambda net: setattr(net, "branch", net.block),
    lambda net: setattr(net, "branch", functools.partial(Net.block, net)),
    lambda net: net.c1.register_forward_hook(net.block),
    lambda net: setattr(net, "layers", [net.c1, {"two": net.c2}]),
    lambda net: setattr(net, "activation", torch.relu),
    keeps_config,
    keeps_constant,
]


@pytest.mark.parametrize("change", SAFE)
def test_what_a_deep_copy_binds_anew_is_copied(change) -> None:
    net = Net()
    change(net)
    twin = copied(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    x = torch.ones(1, 3, 4, 4)
    if not net.c1._forward_hooks:
        assert twin(x).abs().sum() > 0


def test_a_container_that_fills_later_is_found_then() -> None:
    net = Net()
    net.kept = {}
    net.c1.register_forward_hook(lambda _m, _i, y, kept=net.kept: kept.update(c1=y))
    twin = copied(net)
    twin(torch.ones(1, 3, 4, 4))
    with pytest.raises(ModelError, match=r"a forward hook of c1 is a lambda that holds Net\.kept"):
        check_escapes(net, twin)


def test_a_plain_deep_copy_passes() -> None:
    net = Net()
    check_escapes(net, copy.deepcopy(net))
