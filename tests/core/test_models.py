import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.models import DRAWN, ModelSpec, input_channels

SOURCE = """
import helper
from torch import nn

def build_model(num_classes=3, width=2):
    return nn.Sequential(nn.Conv2d(helper.CHANNELS, width, 3), nn.Flatten(), nn.LazyLinear(num_classes))

def simple(width=2):
    return nn.Conv2d(3, width, 3)

def text():
    return "no module"

def broken():
    raise ValueError("two\\nlines")
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "helper.py").write_text("CHANNELS = 1\n")
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def test_timm_takes_the_number_of_classes_and_the_seed_fixes_the_weights() -> None:
    specs = [ModelSpec(source="timm:resnet10t", classes=7, seed=s) for s in (0, 0, 1)]
    state = torch.get_rng_state()
    models = [spec.build() for spec in specs]
    assert torch.equal(state, torch.get_rng_state())
    assert models[0].fc.out_features == 7
    weights = [m.conv1[0].weight for m in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_torchvision_and_its_arguments() -> None:
    model = ModelSpec(
        source="torchvision:resnet18", arguments={"num_classes": 4}, classes=9
    ).build()
    assert model.fc.out_features == 4


def test_a_file_with_a_neighbour_and_arguments(file) -> None:
    model = ModelSpec(source=f"{file}:build_model", classes=5, arguments={"width": 4}).build()
    assert model[0].out_channels == 4
    assert model[2].out_features == 5
    assert input_channels(model) == 1
    # A builder without num_classes is left alone.
    assert ModelSpec(source=f"{file}:simple", classes=5).build().out_channels == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("resnet18", "names no model"),
        ("timm:resnet81", "Did you mean .*resnet18"),
        ("torchvision:resnet81", "Did you mean .*resnet18"),
        ("nothing.py:build", "there is no file nothing.py"),
        ("no_such_package:build", "cannot be imported"),
        ("{file}:gone", "no function 'gone'. It has: build_model"),
        ("{file}:text", "returned str"),
        ("{file}:broken", "ValueError: two lines"),
    ],
)
def test_what_does_not_work_is_one_line(source: str, message: str, file) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        ModelSpec(source=source.format(file=file)).build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_are_loaded(file, tmp_path, suffix) -> None:
    state = {k: torch.full_like(v, 2.0) for k, v in nn.Conv2d(3, 2, 3).state_dict().items()}
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    model = ModelSpec(source=f"{file}:simple", weights=str(path)).build()
    assert (model.weight == 2).all()


def test_weights_that_are_missing_or_hold_code_are_refused(file, tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    path = tmp_path / "evil.pt"
    torch.save({"state_dict": Evil()}, path)
    for weights, message in ((tmp_path / "none.pt", "no file"), (path, "holds more than weights")):
        with pytest.raises(ModelError, match=message):
            ModelSpec(source=f"{file}:simple", weights=str(weights)).build()
    assert not (tmp_path / "owned").exists()


def test_pretrained_needs_a_builder_that_takes_it(file) -> None:
    with pytest.raises(ModelError, match="--weights"):
        ModelSpec(source=f"{file}:simple", pretrained=True).build()


def test_torchvision_segmentation_and_detection_build_without_the_network() -> None:
    model = ModelSpec(source="torchvision:lraspp_mobilenet_v3_large", classes=3).build()
    assert model.classifier.high_classifier.out_channels == 3


def test_checkpoints_of_training_scripts_are_read(tmp_path) -> None:
    model = ModelSpec(source="timm:resnet10t", classes=10).build()
    state = {f"module.{k}": v for k, v in model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "ck.pt")
    spec = ModelSpec(source="timm:resnet10t", classes=10, weights=str(tmp_path / "ck.pt"), seed=5)
    again = spec.build().state_dict()
    assert all(torch.equal(v, again[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"source": "timm:resnet18"}, DRAWN),
        ({"source": "torchvision:resnet18", "arguments": {"num_classes": 3}}, DRAWN),
        ({"source": "timm:resnet18", "pretrained": True}, "pretrained"),
        ({"source": "timm:resnet18", "weights": "a.pt", "pretrained": True}, "a.pt"),
        (
            {"source": "torchvision:resnet18", "arguments": {"weights": "DEFAULT"}},
            "those that its builder gave it",
        ),
        ({"source": "net.py:build"}, "those that its builder gave it"),
    ],
)
def test_where_weights_come_from(spec, expected) -> None:
    assert ModelSpec(**spec).weights_from() == expected
