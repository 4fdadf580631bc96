import pytest
from small_detectors import KINDS, small
from torch import nn

from refiner.core.torchvision_detectors import classes_of, detector_in, has_background


@pytest.mark.parametrize("kind", [*KINDS, "maskrcnn", "keypointrcnn"])
def test_a_detector_and_its_number_of_classes_are_found(kind) -> None:
    model = small(kind, classes=3)
    assert detector_in(model) is model
    assert detector_in(nn.Sequential(nn.Identity(), model)) is model
    assert classes_of(model) == 3
    assert has_background(model) == (kind not in ("retinanet", "fcos"))


def test_other_models_and_heads_say_nothing() -> None:
    assert detector_in(nn.Linear(2, 2)) is None
    assert classes_of(nn.Linear(2, 2)) is None
    assert not has_background(nn.Linear(2, 2))
    for kind, head in (("retinanet", "head"), ("fasterrcnn", "roi_heads")):
        model = small(kind)
        setattr(model, head, nn.Identity())
        assert classes_of(model) is None
