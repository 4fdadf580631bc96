import pytest
from torch import nn

from refiner.graph.narrowing import (
    has_plain_weight,
    is_dense,
    is_plain_linear,
    keeps_groups_apart,
    unit_of,
)


class Scaled(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(4, 4, 1)
        self.scale = nn.Parameter(self.weight.detach().clone())


@pytest.mark.parametrize(
    ("conv", "plain", "dense", "apart"),
    [
        (nn.Conv2d(4, 4, 1), True, True, False),
        (nn.Conv2d(1, 1, 3), True, True, False),
        (nn.Conv2d(4, 4, 3, groups=4), True, False, True),
        (nn.Conv2d(4, 4, 3, groups=2), True, False, True),
        (nn.Conv2d(4, 8, 3, groups=4), True, False, False),
        (Scaled(), False, False, False),
    ],
)
def test_kinds_of_convs(conv: nn.Conv2d, plain: bool, dense: bool, apart: bool) -> None:
    assert (has_plain_weight(conv), is_dense(conv), keeps_groups_apart(conv)) == (
        plain,
        dense,
        apart,
    )


@pytest.mark.parametrize(
    ("module", "unit"),
    [
        (nn.BatchNorm2d(12), 1),
        (nn.Sequential(nn.BatchNorm2d(12), nn.PReLU()), 1),
        (nn.BatchNorm2d(6), 0),
        (nn.Linear(12, 12), 0),
        (nn.Conv2d(12, 12, 3, groups=12), 1),
        (nn.Conv2d(12, 12, 1, groups=6), 0),
        (nn.Conv2d(6, 6, 3, groups=6), 0),
        (nn.GroupNorm(12, 12), 1),
        (nn.GroupNorm(4, 12), 3),
        (nn.Sequential(nn.GroupNorm(4, 12), nn.GroupNorm(6, 12)), 6),
        (nn.Sequential(nn.GroupNorm(4, 12), nn.GroupNorm(3, 12)), 0),  # 12 at once
        (nn.GroupNorm(1, 12), 0),
        (nn.LayerNorm(12), 0),
    ],
)
def test_channels_of_a_module_that_go_together(module: nn.Module, unit: int) -> None:
    assert unit_of(module, 12) == unit


def test_plain_linear_layers() -> None:
    assert is_plain_linear(nn.Linear(2, 2))
    assert not is_plain_linear(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    assert not is_plain_linear(nn.utils.weight_norm(nn.Linear(2, 2)))
    hooked = nn.Linear(2, 2)
    hooked.register_forward_hook(lambda *_: None)
    assert not is_plain_linear(hooked)
