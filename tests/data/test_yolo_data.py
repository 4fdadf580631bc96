from pathlib import Path

import numpy as np
import pytest
import torch
from yolo_shapes import shapes

from refiner.core.errors import ConfigError, DataError
from refiner.data.datasets import load_data

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
