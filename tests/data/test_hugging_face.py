import builtins
import sys
import types

import numpy as np
import pytest
from PIL import Image as Pictures

from refiner.core.errors import ConfigError, DataError
from refiner.data.datasets import load_data
from refiner.data.hugging_face import hugging_face_images


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch) -> None:
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigError, match="pip install datasets"):
        load_data("hf:mnist")


class Image:
    """Stands for the feature of the same name."""


class ClassLabel:
    def __init__(self, *names) -> None:
        self.names = list(names)


class Value:
    """Any other feature."""


class Table:
    """The little of datasets.Dataset that is used."""

    def __init__(self, features, **columns) -> None:
        self.features, self.columns = features, columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns[key]
        return {name: values[key] for name, values in self.columns.items()}

    def select_columns(self, names):
        return Table(self.features, **{name: self.columns[name] for name in names})


class Splits(dict):
    pass


@pytest.fixture
def hub(monkeypatch):
    """Hand out what a test puts here, by (name, config)."""
    found = {}
    fake = types.SimpleNamespace(
        DatasetDict=Splits,
        load_dataset=lambda name, config=None: found[name, config],
        load_from_disk=lambda path: found["disk"],
    )
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return found


def table(*labels, feature=None, column="label"):
    pictures = [Pictures.new("RGB", (8, 8), (i, 0, 0)) for i in range(len(labels))]
    features = {"id": Value(), "photo": Image(), column: feature or ClassLabel("cat", "dog")}
    return Table(features, id=list(labels), photo=pictures, **{column: list(labels)})


def test_splits_columns_and_classes_are_found(hub) -> None:
    hub["pets", "small"] = Splits(
        train=table(*[0, 1] * 5), validation=table(1, 0, 1), test=table(0, 0, 1, 1)
    )
    data = load_data("hf:pets:small", image_size=8)
    assert data.classes == ("cat", "dog")
    assert [len(p.labels) for p in (data.train, data.val, data.test)] == [10, 3, 4]
    assert data.val.images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert data.val.labels.tolist() == [1, 0, 1]


def test_one_split_of_any_name_and_labels_that_are_texts(hub) -> None:
    hub["pets", None] = table(*["dog", "ant"] * 3, feature=Value(), column="class")
    images = hugging_face_images("pets")
    assert images.classes == ("ant", "dog")
    assert images.train.labels.tolist() == [1, 0] * 3


def test_a_test_part_without_labels_is_told(hub) -> None:
    hub["pets", None] = Splits(train=table(0, 1), test=table(-1, -1))
    images = hugging_face_images("pets")
    assert images.test is None
    assert "test has images without a known label" in images.notes[0]


def test_folders_of_save_to_disk_are_read(hub, tmp_path) -> None:
    (tmp_path / "dataset_dict.json").write_text("{}")
    hub["disk"] = Splits(train=table(0, 1))
    assert len(hugging_face_images(str(tmp_path)).train) == 2


def test_what_does_not_fit_is_told(hub) -> None:
    with pytest.raises(DataError, match="cannot be loaded: KeyError"):
        hugging_face_images("gone")
    hub["text", None] = Table({"text": Value()}, text=["a"])
    with pytest.raises(DataError, match="no column of images, only text"):
        hugging_face_images("text")
    hub["bare", None] = Table({"image": Image()}, image=[None])
    with pytest.raises(DataError, match="no column of labels among image"):
        hugging_face_images("bare")
    hub["odd", None] = Splits(left=table(0), right=table(1))
    with pytest.raises(DataError, match="the splits left, right, and no train"):
        hugging_face_images("odd")
    hub["bad", None] = Splits(train=table(0, -1))
    with pytest.raises(DataError, match="training images without a label"):
        hugging_face_images("bad")
    hub["holes", None] = Table({"image": Image(), "label": Value()}, image=[None], label=[1])
    with pytest.raises(DataError, match="image 0 of the column 'image' is missing"):
        hugging_face_images("holes").train.open(0)


def test_the_real_package(tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"])
    )
    rows = {"image": [Pictures.fromarray(p) for p in pixels], "label": [0, 1] * 10}
    whole = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(train=whole, test=whole).save_to_disk(str(tmp_path / "pets"))
    data = load_data(f"hf:{tmp_path}/pets")
    assert [len(p.labels) for p in (data.train, data.val, data.test)] == [16, 4, 20]
    assert np.array_equal(data.test.images.permute(0, 2, 3, 1).numpy(), pixels)
