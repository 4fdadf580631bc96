import numpy as np
import pytest
import torchvision
from PIL import Image

from refiner.core.errors import DataError
from refiner.data.datasets import load_data
from refiner.data.torchvision_data import torchvision_images


def test_made_up_images_by_name_with_arguments(tmp_path) -> None:
    spec = "torchvision:FakeData:size=40,image_size=(3, 9, 8),num_classes=4"  # with a tuple
    assert next(iter(load_data(spec, root=tmp_path).val))[0].shape[1:] == (3, 9, 8)
    spec = "torchvision:FakeData:size=40,num_classes=4"
    data = load_data(spec, root=tmp_path, image_size=8, limit=20)
    assert data.classes == ("0", "1", "2", "3")
    assert next(iter(data.val))[0].shape[1:] == (3, 8, 8)
    assert (data.test, data.name) == (None, "torchvision:FakeData")


class WithSplits:
    """As Flowers102: a split per part."""

    splits = ("train", "val", "test")
    flag = "split"

    def __init__(self, root, split="train", transform=None, download=False) -> None:
        if split not in self.splits:
            raise ValueError(f"Unknown value '{split}' for argument split.")
        if not download:
            raise RuntimeError("Dataset not found")
        self._labels = [0, 1, 2] * (1 + self.splits.index(split))
        self.classes = ["x", "y", "z"]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index):
        return Image.new("L", (8, 8), 40 * self._labels[index]), self._labels[index]


class WithFlag(WithSplits):
    """As CIFAR: a flag says whether it is the training part."""

    def __init__(self, root, train=True, download=False) -> None:
        super().__init__(root, "train" if train else "test", download=True)
        self.targets = self._labels


def known(monkeypatch, kind, name="DTD"):
    monkeypatch.setattr(torchvision.datasets, name, kind)
    return torchvision_images


def test_each_split_becomes_its_part(monkeypatch, tmp_path) -> None:
    images = known(monkeypatch, WithSplits)("DTD", tmp_path)
    assert [len(p) for p in (images.train, images.val, images.test)] == [3, 6, 9]
    assert images.classes == ("x", "y", "z")
    assert images.val.open(4).getpixel((0, 0)) == 40
    chosen = torchvision_images("DTD:split=test", tmp_path)
    assert (len(chosen.train), chosen.val, chosen.test) == (9, None, None)


def test_other_splits_of_one_name(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(WithSplits, "splits", ("trainval", "test"))
    images = known(monkeypatch, WithSplits)("DTD", tmp_path)
    assert (len(images.train), images.val, len(images.test)) == (3, None, 6)
    monkeypatch.setattr(WithSplits, "splits", ("left", "right"))
    with pytest.raises(DataError, match=r"Name one: torchvision:DTD:split=NAME"):
        torchvision_images("DTD", tmp_path)


def test_a_flag_keeps_the_official_test_part_apart(monkeypatch, tmp_path) -> None:
    images = known(monkeypatch, WithFlag)("DTD", tmp_path)
    assert (len(images.train), images.val, len(images.test)) == (3, None, 9)


def test_cifar_has_its_official_test_part(monkeypatch, tmp_path) -> None:
    class Small(WithFlag):
        def __init__(self, root, train=True, download=False) -> None:
            self.targets, self.classes = [0, 1] * (20 if train else 5), ["a", "b"]
            self.data = np.full((len(self.targets), 32, 32, 3), 7 if train else 9, dtype=np.uint8)

        def __len__(self) -> int:
            return len(self.targets)

    known(monkeypatch, Small, "CIFAR10")
    data = load_data("cifar10", root=tmp_path)
    assert [len(p.labels) for p in (data.train, data.val, data.test)] == [32, 8, 10]
    assert data.test.images.unique().tolist() == [9]
    assert data.name == "cifar10"
    assert "cifar10 has no validation part: 8 of its training images validate" in data.note


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Flowers", "Did you mean Flowers102"),
        ("os", "no data set 'os'"),
        ("vision", "no data set"),
        ("FakeData:size", "is not NAME:KEY=VALUE"),
        ("FakeData:length=3", "gives it an argument"),
        ("Flowers102", "cannot be downloaded"),
        ("WIDERFace", r"gives no class label|cannot be downloaded"),
    ],
)
def test_what_cannot_be_read_is_told(name, message, tmp_path, monkeypatch) -> None:
    def offline(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr(torchvision.datasets.widerface, "download_file_from_google_drive", offline)
    with pytest.raises(DataError, match=message):
        torchvision_images(name, tmp_path / "new")
    assert not (tmp_path / "new").exists() or any((tmp_path / "new").iterdir())


def test_samples_without_class_labels_are_refused(monkeypatch, tmp_path) -> None:
    class Boxes(WithFlag):
        def __init__(self, root, train=True) -> None:
            self.targets = [[0, 1], [2, 3]]

        def __len__(self) -> int:
            return 2

    with pytest.raises(DataError, match="no class label per image"):
        known(monkeypatch, Boxes)("DTD", tmp_path)


def test_digits_are_not_mirrored(monkeypatch, tmp_path) -> None:
    assert not known(monkeypatch, WithFlag, "MNIST")("MNIST", tmp_path).flip
    assert known(monkeypatch, WithFlag)("DTD", tmp_path).flip
