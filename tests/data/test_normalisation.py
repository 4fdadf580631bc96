import pytest
import torch

from refiner.core.errors import ConfigError
from refiner.core.preprocessing import Preprocessing
from refiner.data.normalisation import Normalisation, measured

TIMM = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), size=(8, 8), source="timm")


@pytest.mark.parametrize(
    ("norm", "channels", "mean", "std"),
    [
        ("imagenet", 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("half", 3, (0.5,) * 3, (0.5,) * 3),
        ("none", 1, (0.0,), (1.0,)),
        ("raw", 1, (0.0,), (1 / 255,)),
        ("model", 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        (None, 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    ],
)
def test_named_scales(norm, channels, mean, std) -> None:
    assert Normalisation(norm=norm).scale(channels, TIMM)[:2] == (mean, std)


def test_the_models_own_comes_first_and_else_the_datas() -> None:
    assert Normalisation().scale(3, TIMM)[2] == "timm"
    assert Normalisation().scale(3, None) is None
    assert Normalisation(norm="data").scale(3, TIMM) is None
    assert Normalisation().scale(1, TIMM)[0] == pytest.approx((0.2,))
    with pytest.raises(ConfigError, match="nothing notes"):
        Normalisation(norm="model").scale(3, None)


def test_numbers_are_one_or_one_per_channel() -> None:
    given = Normalisation(mean=["0.5"], std=("0.1", "0.2", "0.3"))
    assert given.scale(3, TIMM) == ((0.5,) * 3, (0.1, 0.2, 0.3), "--mean and --std")
    with pytest.raises(ConfigError, match="std has 3 numbers. Give 1 number"):
        given.scale(1, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"norm": "imagnet"}, "Choose one of: imagenet"),
        ({"mean": [0.5]}, "mean is given and std is not"),
        ({"std": [0.5]}, "std is given and mean is not"),
        ({"mean": [0.5], "std": [0.5], "norm": "half"}, "Give one of them"),
        ({"mean": [123.675, 116.28, 103.53], "std": [0.2]}, "255: 0.485,0.456,0.406"),
        ({"mean": [0.5], "std": [57.4]}, "std 57.4 is above 1"),
        ({"mean": [0.5], "std": [0]}, "not above 0"),
        ({"mean": [-0.5], "std": [1]}, "out of its range"),
        ({"mean": ["nan"], "std": [1]}, "out of its range"),
        ({"mean": ["a"], "std": [1]}, "'a' is not one number"),
        ({"mean": [0.1, 0.2], "std": [1]}, "mean has 2 numbers"),
        ({"mean": [], "std": [1]}, "mean has 0 numbers"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(given, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Normalisation(**given)


def test_mean_and_deviation_are_measured() -> None:
    images = torch.tensor([0, 51, 102, 153], dtype=torch.uint8).view(4, 1, 1, 1)
    mean, std, _ = measured(images)
    assert (mean, std) == ((0.3,), (0.2582,))
    assert measured(torch.zeros(2, 3, 2, 2, dtype=torch.uint8))[1] == (0.001,) * 3
