from types import SimpleNamespace

import pytest
import torchvision
from small_detectors import small

from refiner.core.errors import ModelError
from refiner.core.torchvision_models import build_torchvision


def test_nothing_is_downloaded_unless_published_weights_are_asked_for() -> None:
    model = build_torchvision("fcn_resnet50", num_classes=3)
    assert model.classifier[4].out_channels == 3
    assert build_torchvision("resnet18", num_classes=4).fc.out_features == 4


def test_a_detector_keeps_the_classes_of_its_published_weights(monkeypatch) -> None:
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(meta={"categories": ["a", "b", "c"]}))
    monkeypatch.setattr(torchvision.models, "get_model_builder", lambda _: lambda **_: small("ssd"))
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _: weights)
    assert build_torchvision("ssd", pretrained=True, num_classes=3) is not None
    with pytest.raises(ModelError, match="weights of ssd are for 3 classes, and 4 are needed"):
        build_torchvision("ssd", pretrained=True, num_classes=4)
