from dataclasses import replace

import numpy as np
import pytest
import torch
from image_folders import fill
from PIL import Image

import refiner
from refiner.core.errors import DataError
from refiner.core.preprocessing import Preprocessing
from refiner.data import torchvision_data
from refiner.data.unseen import with_test


@pytest.fixture
def data(tmp_path):
    return refiner.load_data(f"folder:{fill(tmp_path / 'images', 'ab', 5)}")


def pixels(loader) -> torch.Tensor:
    return torch.cat([images for images, _ in loader])


def test_all_images_of_a_folder_of_classes_are_tested_on(data, tmp_path) -> None:
    root = fill(tmp_path / "unseen", "ab", 3)
    found = with_test(data, f"folder:{root}")
    assert (found.train, found.val) == (data.train, data.val)
    labels = torch.cat([y for _, y in found.test])
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    first = np.asarray(Image.open(root / "a" / "0.png")).transpose(2, 0, 1) / 255
    mean, std = data.mean[:, None, None], data.std[:, None, None]
    expected = (torch.tensor(first) - mean) / std  # scaled as the training images are
    assert torch.allclose(pixels(found.test)[0], expected.float(), atol=1e-5)


def test_of_a_folder_with_parts_only_the_test_part_counts(data, tmp_path) -> None:
    root = tmp_path / "parts"
    fill(root / "train", "ab", 4)
    with pytest.raises(DataError, match=r"has no test part\. Name one of its folders"):
        with_test(data, f"folder:{root}")
    fill(root / "test", "ab", 1)
    assert len(pixels(with_test(data, f"folder:{root}").test)) == 2


def test_a_test_part_of_the_data_is_replaced_and_that_is_told(tmp_path) -> None:
    fill(tmp_path / "images" / "train", "ab", 5)
    fill(tmp_path / "images" / "test", "ab", 2)
    data = refiner.load_data(f"folder:{tmp_path / 'images'}")
    assert len(pixels(data.test)) == 4
    found = with_test(data, f"folder:{fill(tmp_path / 'unseen', 'ab', 1)}")
    assert len(pixels(found.test)) == 2
    assert "is not used: folder:" in found.note
    assert data.note in found.note


def test_images_are_cut_as_those_of_training(data, tmp_path) -> None:
    found = with_test(data, f"folder:{fill(tmp_path / 'large', 'ab', 1, size=(20, 12))}")
    assert pixels(found.test).shape == (2, 3, 8, 8)


def test_what_does_not_fit_in_memory_is_read_from_disk(data, tmp_path, monkeypatch) -> None:
    spec = f"folder:{fill(tmp_path / 'unseen', 'ab', 2)}"
    held = pixels(with_test(data, spec).test)
    monkeypatch.setattr("refiner.data.unseen.fits_in_memory", lambda *_: False)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert torch.allclose(pixels(with_test(data, spec).test), held, atol=1e-5)


def test_classes_have_to_agree_and_keep_their_numbers(data, tmp_path) -> None:
    root = fill(tmp_path / "more", "abc", 1)
    with pytest.raises(DataError, match=r"it has c, which the data lacks\. Give test images of"):
        with_test(data, f"folder:{root}")
    with pytest.raises(DataError, match="it lacks a"):
        with_test(data, f"folder:{fill(tmp_path / 'other', 'bc', 1)}")
    turned = replace(data, classes=("b", "a"))
    labels = [y for _, y in with_test(turned, f"folder:{fill(tmp_path / 'two', 'ab', 1)}").test]
    assert torch.cat(labels).tolist() == [1, 0]


def test_a_limit_keeps_a_thousand_test_images(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("refiner.data.unseen.LEAST_VALIDATION", 4)
    spec = f"folder:{fill(tmp_path / 'unseen', 'ab', 6)}"
    assert len(pixels(with_test(data, spec, limit=2).test)) == 4
    assert len(pixels(with_test(data, spec).test)) == 12


def test_a_function_returns_the_test_loader_or_three(data, tmp_path) -> None:
    code = tmp_path / "mine.py"
    code.write_text(
        "one = lambda: iter_\n"
        "class Loader:\n"
        "    def __len__(self): return 1\n"
        "    def __iter__(self): return iter([(0, 1)])\n"
        "iter_ = Loader()\n"
        "three = lambda: (None, None, iter_)\n"
        "two = lambda: (None, None)\n"
        "bad = lambda: 1 / 0\n"
    )
    for name in ("one", "three"):
        assert list(with_test(data, f"{code}:{name}").test) == [(0, 1)]
    with pytest.raises(DataError, match="gives no test loader. Return one, or"):
        with_test(data, f"{code}:two")
    with pytest.raises(DataError, match="raised ZeroDivisionError|division by zero"):
        with_test(data, f"{code}:bad")


@pytest.mark.parametrize("spec", ["digits", "faces:somewhere", "nothing", "folder"])
def test_data_without_a_test_part_is_refused(data, spec) -> None:
    with pytest.raises(DataError, match=f"{spec} has no test part. Name folder:PATH, cifar10"):
        with_test(data, spec)


def test_data_that_prepares_images_in_its_own_way_wants_a_function(data, tmp_path) -> None:
    unknown = replace(data, preprocessing=None)
    with pytest.raises(DataError, match="does not say how it prepares images"):
        with_test(unknown, f"folder:{fill(tmp_path / 'unseen', 'ab', 1)}")


def test_official_test_sets_are_taken(data, tmp_path, monkeypatch) -> None:
    class Tiny(torch.utils.data.Dataset):
        classes = ("b", "a")

        def __init__(self, root, train=True, download=False, transform=None):
            self.count = 4 if train else 2
            self.targets = [i % 2 for i in range(self.count)]

        def __len__(self):
            return self.count

        def __getitem__(self, index):
            return Image.new("RGB", (8, 8), (10 * index, 0, 0)), self.targets[index]

    monkeypatch.setattr(torchvision_data, "_kind", lambda name: Tiny)
    found = with_test(data, "torchvision:Tiny", root=tmp_path)
    assert torch.cat([y for _, y in found.test]).tolist() == [1, 0]  # by name, not by number
    assert isinstance(found.preprocessing, Preprocessing)


def test_the_test_images_of_a_folder_with_boxes_are_its_own(data) -> None:
    with pytest.raises(DataError, match="Put the test images into `test` of --data"):
        with_test(data, "coco:scenes")
