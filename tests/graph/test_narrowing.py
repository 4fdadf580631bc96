import pytest
from torch import nn

from refiner.graph.narrowing import (
    has_plain_weight,
    is_dense,
    keeps_channels_apart,
    keeps_groups_apart,
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


def test_modules_with_a_number_for_each_channel() -> None:
    assert keeps_channels_apart(nn.BatchNorm2d(4), 4)
    assert keeps_channels_apart(nn.Sequential(nn.BatchNorm2d(4), nn.PReLU()), 4)
    assert not keeps_channels_apart(nn.BatchNorm2d(4), 8)
    assert not keeps_channels_apart(nn.GroupNorm(2, 4), 4)
    assert not keeps_channels_apart(nn.Linear(4, 4), 4)
