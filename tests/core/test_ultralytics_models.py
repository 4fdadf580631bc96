import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from yolo_shapes import tiny_model

from refiner.core.errors import ModelError
from refiner.core.models import DRAWN, ModelSpec
from refiner.core.published import published_preprocessing
from refiner.core.ultralytics_models import class_names, classifies, hyperparameters, is_checkpoint

pytest.importorskip("ultralytics")


def spec(source: object, **options: object) -> ModelSpec:
    return ModelSpec(source=f"ultralytics:{source}", **options)


def test_a_yaml_file_is_drawn_from_the_seed(tmp_path) -> None:
    source = tiny_model(tmp_path)
    first, again, other = (spec(source, seed=seed).build() for seed in (0, 0, 1))
    weights = [next(model.parameters()) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert spec(source).weights_from() == DRAWN
    assert hyperparameters(first).box > 0


def test_a_checkpoint_brings_its_weights_and_hyperparameters(tmp_path) -> None:
    model, file = spec(tiny_model(tmp_path), seed=5).build(), tmp_path / "best.pt"
    checkpoint = {"model": model.half(), "ema": None, "train_args": {"imgsz": 96}}
    torch.save(checkpoint, file)
    allowed = set(torch.serialization.get_safe_globals())
    loaded = spec(file).build()
    assert set(torch.serialization.get_safe_globals()) == allowed, "other files stay as they were"
    weights = next(model.parameters()).float()
    assert torch.equal(next(loaded.parameters()), weights)
    assert hyperparameters(loaded).imgsz == 96
    assert spec(file).weights_from() == str(file)
    assert is_checkpoint(f"ultralytics:{file}")
    assert not is_checkpoint("ultralytics:yolo11n.yaml")


class Hostile:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("hostile"),)


def test_a_checkpoint_runs_no_code_unless_it_is_trusted(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Hostile()}, "bad.pt")
    with pytest.raises(ModelError, match=r"bad\.pt cannot be read.*--trust-weights"):
        spec("bad.pt").build()
    assert not Path("hostile").exists()
    with pytest.raises(ModelError, match="holds no network"):
        spec("bad.pt", trust_weights=True).build()
    assert Path("hostile").exists()


def test_what_is_missing_or_wrong_is_named(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"none\.pt is no file"):
        spec("none.pt").build()
    with pytest.raises(ModelError, match="is no model of ultralytics"):
        spec("none.yaml").build()
    torch.save({"weight": torch.ones(2)}, tmp_path / "state.pt")
    with pytest.raises(ModelError, match=r"state\.pt holds no network"):
        spec(tmp_path / "state.pt").build()
    (tmp_path / "text.pt").write_bytes(pickle.dumps("text"))
    with pytest.raises(ModelError, match=r"text\.pt cannot be read"):
        spec(tmp_path / "text.pt").build()


def test_classifiers_are_built_and_other_kinds_are_named(tmp_path) -> None:
    network = spec("yolov8n-cls.yaml").build()
    assert classifies(network)
    checkpoint = {"model": network, "train_args": {"imgsz": 48}}
    torch.save(checkpoint, tmp_path / "cls.pt")
    found = spec(tmp_path / "cls.pt")
    prepared = published_preprocessing(found, found.build(), 3)
    assert (prepared.size, prepared.mean, prepared.std) == ((48, 48), (0.0,) * 3, (1.0,) * 3)
    assert class_names(network)[:2] == ["0", "1"]
    assert not classifies(spec("yolo11n-seg.yaml").build())
    with pytest.raises(ModelError, match=r"'obb'\. Those for detect, segment, classify can be"):
        spec("yolo11n-obb.yaml").build()


def test_an_activation_is_a_class_and_no_code(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = Path(tiny_model(tmp_path)).read_text()
    Path("tiny.yaml").write_text("activation: torch.nn.LeakyReLU(0.1)\n" + text)
    kinds = {type(module) for module in spec("tiny.yaml").build().modules()}
    assert nn.LeakyReLU in kinds
    Path("tiny.yaml").write_text("activation: open('made', 'w')\n" + text)
    with pytest.raises(ModelError, match="Write a class of torch.nn"):
        spec("tiny.yaml").build()
    assert not Path("made").exists()
