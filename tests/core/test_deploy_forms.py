import timm
from models import TinyResNet
from torch import nn

from refiner.core.deploy_forms import deploy_note


def test_a_model_that_has_yet_to_merge_its_branches_is_named() -> None:
    model = timm.create_model("repvgg_a0", num_classes=3)
    note = deploy_note(model)
    assert note is not None
    assert note.startswith("stem has a method reparameterize")
    assert deploy_note(timm.utils.reparameterize_model(model)) is None


def test_other_models_have_no_note() -> None:
    named = nn.Sequential(nn.Sequential(nn.Conv2d(1, 1, 1)))
    named[0].fuse = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    assert deploy_note(named) is None
    assert deploy_note(TinyResNet()) is None
    assert deploy_note(timm.create_model("resnet10t")) is None
