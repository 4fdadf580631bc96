from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from yolo_shapes import shapes

from refiner.core.errors import ConfigError, DataError
from refiner.data.datasets import load_data
from refiner.data.unseen import with_test

pytest.importorskip("ultralytics")


def test_images_and_boxes_come_as_the_files_have_them(tmp_path) -> None:
    data = load_data(shapes(tmp_path), batch_size=4, image_size=64)
    assert (len(data.train), len(data.val), data.test) == (3, 2, None)
    assert data.classes == ("square", "circle")
    images, truth = next(iter(data.val))
    assert images.shape == (4, 3, 64, 64)
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    for i in range(4):
        text = (tmp_path / "labels" / "val" / f"{i}.txt").read_text().split()
        rows = torch.tensor(list(map(float, text))).view(-1, 5)
        own = truth["batch_idx"] == i
        found = torch.cat([truth["cls"][own], truth["bboxes"][own]], dim=1)
        assert torch.allclose(found, rows, atol=1e-5)


def test_outlines_become_masks(tmp_path) -> None:
    file = shapes(tmp_path, outlines=True)
    _, truth = next(iter(load_data(file, batch_size=4, image_size=64, masks=True).val))
    assert truth["masks"].shape == truth["sem_masks"].shape == (4, 16, 16)
    for i in range(4):
        own = truth["batch_idx"] == i
        assert truth["masks"][i].unique().tolist() == list(range(int(own.sum()) + 1))
        number = int(truth["masks"][i].max())  # the smallest, which lies above the others
        width, height = truth["bboxes"][own][number - 1][2:] * 16
        area = (truth["masks"][i] == number).sum()
        assert float(area) == pytest.approx(float(width * height), rel=0.5)
        kind = truth["cls"][own][number - 1]
        assert (truth["sem_masks"][i][truth["masks"][i] == number] == kind).all()
    assert "masks" not in next(iter(load_data(file, batch_size=4, image_size=64).val))[1]


def test_boxes_alone_give_no_masks(tmp_path) -> None:
    file = shapes(tmp_path)
    with pytest.raises(DataError, match=r"cannot be read: .*supply a segment dataset"):
        load_data(file, batch_size=4, image_size=64, masks=True)


def test_a_limit_takes_fewer_training_images_alone(tmp_path) -> None:
    data = load_data(shapes(tmp_path), batch_size=4, image_size=64, limit=5)
    assert [len(images) for images, _ in data.train] == [4, 1]
    assert sum(len(images) for images, _ in data.val) == 6


class Hostile:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("hostile"),)


def test_a_cache_beside_the_labels_runs_no_code(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = shapes(tmp_path)
    for part in ("train", "val"):
        with open(tmp_path / "labels" / f"{part}.cache", "wb") as cache:
            np.save(cache, np.array(Hostile(), dtype=object), allow_pickle=True)
    assert len(load_data(file, batch_size=4, image_size=64).train) == 3
    assert not Path("hostile").exists()


def test_the_screen_stays_quiet(tmp_path, capfd) -> None:
    load_data(shapes(tmp_path), batch_size=4, image_size=64)
    assert capfd.readouterr() == ("", "")


def test_what_is_wrong_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"none\.yaml does not exist"):
        load_data("none.yaml")
    file = Path(shapes(tmp_path))
    with pytest.raises(ConfigError, match="--norm, --mean or --std does not apply"):
        load_data(str(file), norm="half")
    file.write_text(file.read_text().replace("images/val", "images/nowhere"))
    with pytest.raises(DataError, match="images not found"):
        load_data(str(file))
    file.write_text(file.read_text().replace("images/nowhere", "images/val"))
    for label in (tmp_path / "labels" / "val").glob("*.txt"):
        label.write_text("")
    with pytest.raises(DataError, match="no image of val has a box"):
        load_data(str(file))
    file.write_text("train: [")
    with pytest.raises(DataError, match="shapes"):
        load_data(str(file))


def test_images_that_are_left_out_are_named(tmp_path) -> None:
    file = shapes(tmp_path)
    assert load_data(file, batch_size=4, image_size=64).note == ""
    (tmp_path / "labels" / "train" / "3.txt").write_text("7 0.5 0.5 0.1 0.1")  # there is no class 7
    (tmp_path / "images" / "val" / "0.png").write_bytes(b"no picture")
    first, second = load_data(file, batch_size=4, image_size=64).note.splitlines()
    assert first.startswith("ultralytics leaves out 1 of the images of train")
    assert first.endswith("3.png.")
    assert second.endswith("0.png.")


def test_a_relative_path_is_found_from_anywhere(tmp_path, monkeypatch) -> None:
    file = Path(shapes(tmp_path / "data"))
    file.write_text(file.read_text().replace(f"path: {file.parent}", "path: ."))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    file.write_text(file.read_text().replace("path: .", "path: ../data"))
    assert len(load_data(str(file), batch_size=4, image_size=64).train) == 3  # from here
    (tmp_path / "data" / "sets").symlink_to(tmp_path / "data")
    file.write_text(file.read_text().replace("path: ../data", "path: sets"))
    assert len(load_data(str(file), batch_size=4, image_size=64).train) == 3  # from the file
    file.write_text(file.read_text().replace("path: sets", "path: nowhere"))
    with pytest.raises(DataError):
        load_data(str(file))


def test_pictures_are_not_repaired(tmp_path) -> None:
    file = shapes(tmp_path)
    picture = tmp_path / "images" / "train" / "0.png"
    with Image.open(picture) as image:
        image.save(picture.with_suffix(".jpg"))
    picture.unlink()
    cut = picture.with_suffix(".jpg").read_bytes()[:-2]
    picture.with_suffix(".jpg").write_bytes(cut)
    load_data(file, batch_size=4, image_size=64)
    assert picture.with_suffix(".jpg").read_bytes() == cut


def test_test_images_belong_into_the_same_file(tmp_path) -> None:
    data = load_data(shapes(tmp_path), batch_size=4, image_size=64)
    with pytest.raises(DataError, match="as `test:` in the YAML file"):
        with_test(data, str(tmp_path / "shapes.yaml"))
