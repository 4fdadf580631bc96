import pytest
import torch
from torch import nn

from refiner.core.errors import ModelError
from refiner.graph.tracing import trace_model

GLOBAL = nn.Conv2d(3, 3, 3, padding=1)
CACHE: dict[str, nn.Module] = {}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))


class UsesGlobal(Net):
    def forward(self, x):
        return GLOBAL(self.conv(self.stem(x)))


class InsideALeaf(nn.Module):
    def forward(self, x):
        return nn.functional.conv2d(x, GLOBAL.weight, padding=1)


class UsesGlobalInALeaf(Net):
    def __init__(self) -> None:
        super().__init__()
        self.leaf = InsideALeaf()

    def forward(self, x):
        return self.leaf(self.conv(self.stem(x)))


class UsesACache(Net):
    def forward(self, x):
        return CACHE["conv"](self.stem(x))


class Hidden(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Conv2d(3, 3, 3, padding=1)]

    def forward(self, x):
        return self.layers[0](self.conv(self.stem(x)))


class MakesAParameter(Net):
    def forward(self, x):
        return self.conv(self.stem(x)) * nn.Parameter(torch.ones(1) + 1)


@pytest.mark.parametrize("kind", [UsesGlobal, UsesGlobalInALeaf])
def test_a_global_module_is_refused(kind) -> None:
    with pytest.raises(ModelError, match="parameter of shape 3x3x3x3 that no attribute of it"):
        trace_model(kind(), torch.ones(2, 3, 4, 4))


def test_what_a_copy_reads_of_the_original_is_named() -> None:
    net = UsesACache()
    CACHE["conv"] = net.conv
    with pytest.raises(ModelError, match=r"a copy of UsesACache still uses conv\.weight of the or"):
        trace_model(net, torch.ones(2, 3, 4, 4))


@pytest.mark.parametrize("kind", [Hidden, MakesAParameter])
def test_what_is_copied_or_made_in_the_run_is_no_outside(kind) -> None:
    trace_model(kind(), torch.ones(2, 3, 4, 4))
