import shutil
from dataclasses import replace

import pytest
import torch
from image_folders import fill
from PIL import Image

from refiner.core.errors import ConfigError, DataError
from refiner.core.preprocessing import Preprocessing
from refiner.data import image_data as module
from refiner.data.folder_parts import folder_images
from refiner.data.image_data import Options, image_data
from refiner.data.normalisation import FROM_DATA, Normalisation
from refiner.data.tensor_loader import TensorLoader

TWO = ["a", "b"]
TIMM = Preprocessing(
    mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2), size=(14, 14), resize=(16, 16),
    interpolation="bicubic", source="the pretrained weights (timm)",
)  # fmt: skip
OPTIONS = Options(batch_size=4, channels=3)


def prepared(path, **options):
    return image_data(folder_images(path), replace(OPTIONS, **options)).preprocessing


def photos(path):
    fill(path, TWO, 3, size=(20, 30))
    return fill(path, TWO, 2, size=(31, 25), first=3)


def test_the_data_decides_without_a_model(tmp_path) -> None:
    data = image_data(folder_images(fill(tmp_path, TWO, 5)), OPTIONS)
    found = data.preprocessing
    assert isinstance(data.train, TensorLoader)
    assert (found.size, found.covers, found.classes) == ((8, 8), (8, 8), ("a", "b"))
    assert found.source == FROM_DATA
    expected = (data.train.images.float() / 255).mean((0, 2, 3))
    assert found.mean == pytest.approx(expected.tolist(), abs=1e-4)
    assert data.mean.tolist() == pytest.approx(list(found.mean))


def test_photographs_take_the_models_size_scale_and_filter(tmp_path) -> None:
    data = image_data(folder_images(photos(tmp_path)), replace(OPTIONS, of_model=TIMM))
    assert data.preprocessing == replace(TIMM, classes=("a", "b"))
    assert next(iter(data.val))[0].shape == (2, 3, 14, 14)


def test_the_size_of_photographs_without_a_model(tmp_path) -> None:
    photos(tmp_path)
    found = prepared(tmp_path)
    assert (found.size, found.covers, found.interpolation) == ((224, 224), (256, 256), "bilinear")
    found = prepared(tmp_path, image_size=28)
    assert (found.size, found.covers) == ((28, 28), (32, 32))


@pytest.mark.parametrize(
    ("options", "size", "covers"),
    [
        ({}, (8, 8), (8, 8)),  # small images keep their size
        ({"keep_size": True}, (14, 14), (14, 14)),
        ({"image_size": 28}, (28, 28), (28, 28)),
        ({"image_size": 7}, (7, 7), (8, 8)),
    ],
)
def test_small_images_of_one_size(tmp_path, options, size, covers) -> None:
    found = prepared(fill(tmp_path, TWO), of_model=TIMM, **options)
    assert (found.size, found.covers, found.mean) == (size, covers, TIMM.mean)


def test_larger_images_of_one_size_are_cut_as_the_weights_expect(tmp_path) -> None:
    found = prepared(fill(tmp_path, TWO, size=(20, 20)), of_model=TIMM)
    assert (found.size, found.covers) == ((14, 14), (16, 16))


def test_the_user_decides_the_scale(tmp_path) -> None:
    half = prepared(fill(tmp_path, TWO), of_model=TIMM, normalisation=Normalisation(norm="half"))
    assert (half.mean, half.source) == ((0.5,) * 3, "--norm half")
    own = prepared(tmp_path, of_model=TIMM, normalisation=Normalisation(norm="data"))
    assert own.source == FROM_DATA


def test_grey_pictures_and_colour_models_and_the_reverse(tmp_path) -> None:
    fill(tmp_path, TWO)
    for name in TWO:
        Image.open(tmp_path / name / "0.png").convert("L").save(tmp_path / name / "0.png")
    data = image_data(folder_images(tmp_path), OPTIONS)
    assert data.train.images.shape[1] == 3
    data = image_data(folder_images(tmp_path), replace(OPTIONS, channels=1))
    assert (data.train.images.shape[1], len(data.preprocessing.mean)) == (1, 1)


def test_the_test_part_is_apart_and_prepared_alike(tmp_path) -> None:
    for part, count in (("train", 5), ("val", 2), ("Testing", 3)):
        fill(tmp_path / part, TWO, count)
    data = image_data(folder_images(tmp_path), OPTIONS)
    assert [len(p.labels) for p in (data.train, data.val, data.test)] == [10, 4, 6]
    assert torch.equal(data.test.mean, data.train.mean)
    assert not data.test.train
    limited = image_data(folder_images(tmp_path), replace(OPTIONS, limit=4))
    assert [len(p.labels) for p in (limited.train, limited.val, limited.test)] == [4, 4, 6]


def test_notes_are_lines_and_copies_are_told(tmp_path) -> None:
    fill(tmp_path / "train", TWO, 5)
    fill(tmp_path / "test", TWO, 2)
    shutil.copy(tmp_path / "train" / "a" / "0.png", tmp_path / "test" / "a" / "1.png")
    (tmp_path / "train" / "a" / "x.txt").write_text("")
    module_notes = image_data(folder_images(tmp_path), OPTIONS).note.splitlines()
    assert [line.split(":")[-1].split()[0] for line in module_notes[:1]] == ["1"]
    assert "no validation part" in module_notes[1]
    copies = [line for line in module_notes if "copies" in line]
    assert len(copies) <= 1  # the copy may have been held out of the training part


def test_a_damaged_image_is_named_at_once(tmp_path) -> None:
    fill(tmp_path, TWO, 5)
    (tmp_path / "b" / "3.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"b/3.png is not a readable"):
        prepared(tmp_path)


def test_few_images_measure_the_scale(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_MEASURED", 1)
    assert prepared(fill(tmp_path, TWO)).source == FROM_DATA


def test_a_batch_larger_than_the_memory_is_refused_before_images_are_read(
    tmp_path, monkeypatch
) -> None:
    folder = folder_images(fill(tmp_path, TWO, 3))
    monkeypatch.setattr(module, "total_memory", lambda: 4 * 256 * 3 * 100 * 100)
    monkeypatch.setattr(module, "read_all", None)
    with pytest.raises(ConfigError, match="256 images of 101x101 takes 0 GB.* --image-size"):
        image_data(folder, replace(OPTIONS, image_size=101))
    monkeypatch.undo()
    assert image_data(folder, replace(OPTIONS, image_size=100)).preprocessing.size == (100, 100)


def test_photographs_are_read_for_their_scale_only_if_it_is_needed(tmp_path, monkeypatch) -> None:
    def read_all(*_: object) -> torch.Tensor:
        raise AssertionError("read for nothing")

    images = folder_images(photos(tmp_path))
    monkeypatch.setattr(module, "read_all", read_all)
    image_data(images, replace(OPTIONS, of_model=TIMM))
    with pytest.raises(AssertionError, match="for nothing"):
        image_data(images, OPTIONS)
