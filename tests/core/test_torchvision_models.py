from refiner.core.torchvision_models import build_torchvision


def test_nothing_is_downloaded_unless_published_weights_are_asked_for() -> None:
    model = build_torchvision("fcn_resnet50", num_classes=3)
    assert model.classifier[4].out_channels == 3
    assert build_torchvision("resnet18", num_classes=4).fc.out_features == 4
