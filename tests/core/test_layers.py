import torch
from torch import nn

from refiner.core.layers import holds_conv, is_conv, is_norm, squeezes


def test_subclasses_are_convs_and_norms_too() -> None:
    class Own(nn.Conv2d):
        pass

    class FrozenBatchNorm2d(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    assert is_conv(Own(1, 1, 1))
    assert is_conv(nn.ConvTranspose1d(1, 1, 1))
    assert not is_conv(nn.Linear(1, 1))
    assert is_norm(FrozenBatchNorm2d())
    assert is_norm(nn.GroupNorm(1, 1))
    assert holds_conv(nn.Sequential(nn.ReLU(), Own(1, 1, 1)))
    assert not holds_conv(nn.Sequential(nn.ReLU()))


def test_a_block_named_after_its_norm_is_no_norm() -> None:
    class ConvNormAct(nn.Sequential):
        pass

    assert not is_norm(ConvNormAct(nn.Conv2d(1, 1, 1)))


def test_what_goes_to_few_features_and_back_squeezes() -> None:
    down, up = nn.Linear(8, 2), nn.Linear(2, 8)
    assert squeezes(nn.Sequential(down, nn.ReLU(), up))
    assert squeezes(nn.ModuleDict({"inside": nn.Sequential(down, up)}))
    for other in (
        [up, down],
        [down, nn.Linear(2, 4)],
        [down],
        [down, up, nn.Linear(2, 8)],
        [nn.Linear(8, 8)],
    ):
        assert not squeezes(nn.Sequential(*other))
