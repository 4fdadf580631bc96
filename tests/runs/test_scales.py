import pytest
import torch

from refiner.runs.look import Scale
from refiner.runs.scales import other_scales

UNIT = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
UNIT[0, :, 0, 0], UNIT[0, :, 0, 1] = 0.0, 1.0
MEAN, STD = (
    torch.tensor([0.4, 0.5, 0.6])[:, None, None],
    torch.tensor([0.2, 0.3, 0.4])[:, None, None],
)


def scale_of(x: torch.Tensor) -> Scale:
    return Scale(
        shape=tuple(x.shape[1:]), low=x.amin((0, 2, 3)), high=x.amax((0, 2, 3)), mean=0, std=1
    )


@pytest.mark.parametrize(
    ("x", "known"),
    [
        (UNIT, {}),
        (255 * UNIT, {}),
        (2 * UNIT - 1, {}),
        ((UNIT - MEAN) / STD, {"mean": MEAN.flatten().tolist(), "std": STD.flatten().tolist()}),
        ((UNIT - MEAN) / STD, {}),  # by the least and the largest value
    ],
)
def test_each_scale_is_reached_from_each(x, known) -> None:
    forms = other_scales(scale_of(x), known)
    wanted = {
        "scaled from 0 to 1": UNIT,
        "scaled from 0 to 255": 255 * UNIT,
        "scaled from -1 to 1": 2 * UNIT - 1,
        "with the channels in the order blue, green, red": x.flip(1),
    }
    for name, values in wanted.items():
        if torch.allclose(values, x, atol=1e-4):
            assert name not in forms, "it is as it came"
        else:
            assert torch.allclose(forms[name](x), values, atol=1e-3)
    imagenet = forms["normalised by ImageNet's mean and std"](x)
    assert torch.allclose(imagenet[:, 0], (UNIT[:, 0] - 0.485) / 0.229, atol=1e-4)


def test_grey_images_have_no_order_of_channels_and_others_no_scale() -> None:
    assert len(other_scales(scale_of(UNIT[:, :1]), {})) == 3
    assert other_scales(scale_of(UNIT[:, :2]), {}) == {}
