import json
import socket

import pytest
import torch

from refiner.core.errors import ModelError
from refiner.core.models import ModelSpec, is_trained
from refiner.core.published import published_preprocessing
from refiner.core.transformers_models import build_transformers, class_names, task_of

transformers = pytest.importorskip("transformers")


def small_resnet(classes=("cat", "dog", "fox")):
    names = dict(enumerate(classes))
    return transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic",
            id2label=names, label2id={name: i for i, name in names.items()},
        )
    ).eval()  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    small_resnet().save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def test_a_folder_gives_its_weights_and_a_config_alone_new_ones(folder) -> None:
    source = f"transformers:{folder}"
    spec = ModelSpec(source=source)
    x = torch.randn(2, 3, 32, 32)
    torch.manual_seed(0)
    with torch.no_grad():
        assert torch.equal(spec.build().eval()(x).logits, small_resnet()(x).logits)
    assert is_trained(source)
    assert spec.weights_from() == str(folder)
    assert task_of(source) == "classification"
    (folder / "model.safetensors").unlink()
    assert not is_trained(source)
    first, same = (ModelSpec(source=source, seed=3).build().eval() for _ in range(2))
    with torch.no_grad():
        assert torch.equal(first(x).logits, same(x).logits)


def test_images_are_prepared_as_the_folder_says(folder) -> None:
    spec = ModelSpec(source=f"transformers:{folder}")
    assert published_preprocessing(spec, spec.build(), 3) is None
    noted = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32},
             "do_center_crop": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3],
             "resample": 3}  # fmt: skip
    for changed, size, mean in (
        ({}, (32, 32), (0.5, 0.4, 0.3)),
        ({"do_center_crop": False, "size": {"height": 24, "width": 28}}, (24, 28), (0.5, 0.4, 0.3)),
        ({"do_normalize": False}, (32, 32), (0.0, 0.0, 0.0)),
    ):
        (folder / "preprocessor_config.json").write_text(json.dumps(noted | changed))
        found = published_preprocessing(spec, spec.build(), 3)
        assert (found.size, found.mean) == (size, mean)
        assert found.source == "the pretrained weights (transformers)"
        assert found.interpolation == "bicubic"
    (folder / "preprocessor_config.json").write_text(json.dumps(noted))
    assert published_preprocessing(spec, spec.build(), 3).resize == (40, 40)
    for edge, resize in ((224, 256), (384, 384)):  # as the processor of ConvNeXt
        given = {"size": {"shortest_edge": edge}, "crop_pct": 0.875, "image_mean": [0.5] * 3}
        given["image_std"] = [0.5] * 3
        (folder / "preprocessor_config.json").write_text(json.dumps(given))
        assert published_preprocessing(spec, spec.build(), 3).resize == (resize, resize)
    for damaged in (
        "[]",
        "{",
        json.dumps({"size": {"longest_edge": 3}}),
        *(
            json.dumps(noted | more)
            for more in (
                {"do_rescale": False},
                {"rescale_factor": 1 / 127.5},
                {"include_top": True},
                {"do_flip_channel_order": True},
                {"image_processor_type": "MobileViTImageProcessor"},
                {"crop_size": None},
            )
        ),
    ):
        (folder / "preprocessor_config.json").write_text(damaged)
        assert published_preprocessing(spec, spec.build(), 3) is None


def test_what_is_no_folder_of_transformers_is_named(folder, tmp_path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        build_transformers(str(tmp_path))
    config = json.loads((folder / "config.json").read_text())
    for wrong, said in (
        ("{", "cannot be read"),
        ("[" * 10**5, "cannot be read"),
        ("[]", "holds no config"),
        (json.dumps(config | {"architectures": ["os"]}), "the class 'os'"),
        (json.dumps(config | {"attn_implementation": "some/kernel"}), "code from elsewhere"),
        (json.dumps(config | {"architectures": None}), "names no class"),
        (json.dumps(config | {"architectures": ["Trainer"]}), "'Trainer'"),
        (json.dumps(config | {"hidden_sizes": [8, 24]}), "cannot be loaded|lack"),
        (json.dumps(config | {"depths": [1, 2]}), "lack"),
    ):
        (folder / "config.json").write_text(wrong)
        with pytest.raises(ModelError, match=said):
            build_transformers(str(folder))


def test_classes_are_named_in_their_order() -> None:
    assert class_names(small_resnet()) == ["cat", "dog", "fox"]


def test_no_backbone_is_fetched(tmp_path, monkeypatch) -> None:
    asked = []

    def no_network(host, *_args, **_options):
        asked.append(host)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    config = transformers.TimmBackboneConfig(backbone="hf-hub:some/model").to_dict()
    config |= {"architectures": ["TimmBackbone"], "use_pretrained_backbone": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be built"):
        build_transformers(str(tmp_path))
    assert asked == []
