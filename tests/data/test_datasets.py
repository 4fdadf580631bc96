import numpy as np
import pytest
import torch
from face_folders import make_faces
from PIL import Image

from refiner.core.errors import ConfigError, DataError
from refiner.data import image_loaders, parts
from refiner.data.datasets import load_data
from refiner.data.tensor_loader import TensorLoader


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for part, count in (("train", 10), ("val", 3)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def test_digits_are_real_images_and_say_so() -> None:
    data = load_data("digits", batch_size=32)
    assert "scikit-learn" in data.note
    assert len(data.classes) == 10
    counts = [len(data.train.labels), len(data.val.labels)]
    assert sum(counts) == 1797
    assert counts[1] == pytest.approx(359, abs=5)
    x, _ = next(iter(data.train))
    assert x.shape == (32, 3, 32, 32)
    assert abs(float(x.mean())) < 0.2
    assert next(iter(load_data("digits", channels=1).train))[0].shape[1] == 1


def test_folder_with_and_without_a_validation_part(folder) -> None:
    data = load_data(f"folder:{folder}", batch_size=4)
    assert data.classes == ("cat", "dog")
    assert (len(data.train.labels), len(data.val.labels)) == (20, 6)
    split = load_data(f"folder:{folder}/train", batch_size=4)
    assert (len(split.train.labels), len(split.val.labels)) == (16, 4)
    assert split.val.labels.bincount().tolist() == [2, 2]


def test_limit_takes_its_share_of_each_class_and_the_seed_decides(folder) -> None:
    a, b = (load_data(f"folder:{folder}", limit=10, seed=s).train for s in (0, 1))
    assert a.labels.bincount().tolist() == [5, 5]
    assert not torch.equal(a.images, b.images)


def test_limit_is_applied_once(folder) -> None:
    assert len(load_data(f"folder:{folder}", limit=3).train.labels) == 4  # 2 of each class


def test_photographs_of_different_shapes_are_cut_not_squashed(tmp_path) -> None:
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        for i in range(5):
            pixels = np.zeros((40, 100 + i, 3), dtype=np.uint8)
            pixels[:, 30:70] = 255
            Image.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    data = load_data(f"folder:{tmp_path}", batch_size=4, image_size=16)
    images, labels = next(iter(data.val))
    assert images.shape == (2, 3, 16, 16)
    assert sorted(labels.tolist()) == [0, 1]
    assert images.flatten(1).std(1).max() < 0.1  # the white middle alone
    assert next(iter(data.train))[0].shape == (4, 3, 16, 16)


def test_large_folders_are_read_from_disk(folder, monkeypatch) -> None:
    monkeypatch.setattr(image_loaders, "_TENSOR_LIMIT", 100)
    data = load_data(f"folder:{folder}", batch_size=4)
    assert not isinstance(data.train, TensorLoader)
    x, y = next(iter(data.val))
    assert (x.shape, y.tolist()) == ((6, 3, 8, 8), [0, 0, 0, 1, 1, 1])
    monkeypatch.undo()
    whole = load_data(f"folder:{folder}", batch_size=4)
    same, _ = next(iter(whole.val))
    assert torch.allclose(x, same, atol=1e-5)  # normalised alike


def test_user_function(tmp_path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def loaders():\n    return [1], [2]\n"
        "def one():\n    return [1]\n"
        "def broken():\n    raise ValueError('no disk')\n"
    )
    data = load_data(f"{file}:loaders")
    assert (data.train, data.val) == ([1], [2])
    for name, message in (
        ("one", "validation loader"),
        ("broken", "no disk"),
        ("gone", "no function"),
    ):
        with pytest.raises(DataError, match=message):
            load_data(f"{file}:{name}")


def test_cifar_offline_tells_where_the_archive_goes(tmp_path, monkeypatch) -> None:
    import torchvision

    def offline(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", offline)
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz"):
        load_data("cifar10", root=tmp_path)


def test_cifar_is_read_through_torchvision(tmp_path, monkeypatch) -> None:
    import torchvision

    class Small:
        filename = "x"

        def __init__(self, root, train, download) -> None:
            self.data = np.zeros((40, 32, 32, 3), dtype=np.uint8)
            self.targets, self.classes = [0, 1] * 20, ["a", "b"]

        def __len__(self) -> int:
            return len(self.targets)

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", Small)
    data = load_data("cifar100", root=tmp_path, channels=1, image_size=16)
    assert data.train.images.shape == (32, 1, 16, 16)
    assert data.classes == ("a", "b")


def test_unknown_names_and_sizes() -> None:
    for spec in ("imagenet", "digits:", ""):
        with pytest.raises(DataError, match="Choose digits"):
            load_data(spec)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        load_data("digits", batch_size=0)


def test_faces_are_identities_and_tell_their_scale(tmp_path) -> None:
    make_faces(tmp_path)
    data = load_data(f"faces:{tmp_path}", batch_size=4, limit=12, image_size=8, seed=2)
    assert len(data.classes) == 2  # of five training images each
    assert data.train.images.shape == (10, 3, 8, 8)
    assert (data.mean.tolist(), data.std.tolist()) == ([0.5] * 3, [0.5] * 3)
    with pytest.raises(DataError, match="there is no folder"):
        load_data(f"faces:{tmp_path}/gone")


def test_a_folder_of_images_tells_its_scale(folder) -> None:
    data = load_data(f"folder:{folder}")
    x, _ = next(iter(data.val))
    pixels = x * data.std.view(1, -1, 1, 1) + data.mean.view(1, -1, 1, 1)
    assert torch.allclose(pixels, data.val.images.float() / 255, atol=1e-6)


def test_validation_images_of_other_proportions_are_not_squashed(folder) -> None:
    data = load_data(f"folder:{folder}", image_size=8)
    assert isinstance(data.val, TensorLoader)
    stripes = np.zeros((8, 24, 3), dtype=np.uint8)
    stripes[:, 8:16] = 255  # all that a cut of the centre sees
    Image.fromarray(stripes).save(folder / "val" / "dog" / "wide.png")
    data = load_data(f"folder:{folder}", image_size=8)
    x, y = next(iter(data.val))
    wide = x[-1] * data.std.view(3, 1, 1) + data.mean.view(3, 1, 1)
    assert y[-1] == 1
    assert float(wide.mean()) > 0.9


def test_a_limit_leaves_enough_to_validate_with(folder, monkeypatch) -> None:
    assert len(load_data(f"folder:{folder}", limit=4).val.labels) == 6  # all that there are
    monkeypatch.setattr(parts, "LEAST_VALIDATION", 4)
    for limit, count in ((2, 4), (6, 6), (100, 6)):
        assert len(load_data(f"folder:{folder}", limit=limit).val.labels) == count
