import pytest
from torch import nn

from refiner.core.models import ModelSpec
from refiner.core.published import noted_preprocessing, published_preprocessing


def published(source, channels=3, **spec):
    made = ModelSpec(source=source, pretrained=spec.pop("pretrained", True), **spec)
    model = ModelSpec(source=source).build()
    return published_preprocessing(made, model, channels)


def test_timm_notes_how_its_weights_were_trained() -> None:
    half = published("timm:mobilenetv3_small_050.lamb_in1k")
    assert (half.mean, half.size, half.resize) == ((0.485, 0.456, 0.406), (224, 224), (256, 256))
    assert half.interpolation == "bicubic"
    assert "timm" in half.source
    grey = published("timm:mobilenetv3_small_050.lamb_in1k", channels=1)
    assert grey.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))


def test_timm_models_of_other_scales() -> None:
    assert published("timm:tf_efficientnet_lite0.in1k").mean == (0.5, 0.5, 0.5)


def test_torchvision_notes_it_in_its_transforms() -> None:
    found = published("torchvision:mobilenet_v3_small")
    assert (found.std, found.resize) == ((0.229, 0.224, 0.225), (256, 256))
    second = published(
        "torchvision:mobilenet_v2", pretrained=False, arguments={"weights": "IMAGENET1K_V2"}
    )
    assert second.resize == (232, 232)


def test_weights_of_the_users_own_note_nothing() -> None:
    for spec in ({"pretrained": False}, {"weights": "mine.pt"}):
        assert published("torchvision:mobilenet_v3_small", **spec) is None
    plain = nn.Conv2d(3, 3, 3)
    assert noted_preprocessing(ModelSpec(source="net.py:build"), plain, 3) is None
    plain.pretrained_cfg = {"mean": "damaged"}
    assert noted_preprocessing(ModelSpec(source="net.py:build"), plain, 3) is None
