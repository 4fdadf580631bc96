import numpy as np
import pytest
import torch
from PIL import Image

from refiner.core.errors import ConfigError, DataError
from refiner.data import image_loaders
from refiner.data.identities import FACE_MEAN, FACE_STD, load_identities
from refiner.data.tensor_loader import TensorLoader

COUNTS = {"ann": 10, "bo": 6, "cy": 5, "dee": 2, "eve": 1, "fay": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every image has a colour of its own: (identity, number, 0)."""
    root = tmp_path_factory.mktemp("faces")
    for label, (name, count) in enumerate(COUNTS.items()):
        (root / "train" / name).mkdir(parents=True)
        for i in range(count):
            colour = (20 * label, 10 * i, 0)
            Image.new("RGB", (4, 6), colour).save(root / "train" / name / f"{i}.png")
    (root / "val" / "other").mkdir(parents=True)
    Image.new("RGB", (4, 6)).save(root / "val" / "other" / "1.png")
    return root


def held(loader, classes):
    """Return (identity's name, image's number) of each image, by its colour; labels have to agree."""
    names = list(COUNTS)
    found = set()
    for image, label in zip(loader.images, loader.labels):
        name = names[int(image[0, 0, 0]) // 20]
        assert classes[label] == name
        found.add((name, int(image[1, 0, 0]) // 10))
    assert len(found) == len(loader.images)
    return found


def parts(data):
    train, val = held(data.train, data.classes), held(data.val, data.classes)
    assert not train & val
    return train, val


def per_identity(images):
    names = [name for name, _ in images]
    return {name: names.count(name) for name in sorted(set(names))}


def test_a_fifth_of_each_identity_validates(folder) -> None:
    data = load_identities(folder)
    assert data.classes == ("ann", "bo", "cy", "dee", "fay")  # eve has a single image
    train, val = parts(data)
    assert per_identity(train) == {"ann": 8, "bo": 5, "cy": 4, "dee": 1, "fay": 6}
    assert per_identity(val) == {"ann": 2, "bo": 1, "cy": 1, "dee": 1, "fay": 2}
    assert data.train.images.shape[1:] == (3, 6, 4)
    assert data.train.labels.dtype is torch.int64
    assert "5 of 6 identities; 24 images train, 7 validate" in data.note
    assert data.name == f"identities:{folder}"


def test_a_folder_without_a_train_part_is_the_same(folder) -> None:
    inner = load_identities(folder / "train")
    assert torch.equal(inner.train.images, load_identities(str(folder)).train.images)


def test_identities_with_few_images_are_left_out_or_kept(folder) -> None:
    assert load_identities(folder, min_images=6).classes == ("ann", "bo", "fay")
    data = load_identities(folder, min_images=1)
    train, val = parts(data)
    assert per_identity(train)["eve"] == 1
    assert "eve" not in per_identity(val)


def test_an_upper_limit_keeps_identities_with_fewer(folder) -> None:
    train, val = parts(load_identities(folder, images_per_identity=5))
    assert per_identity(train | val) == {"ann": 5, "bo": 5, "cy": 5, "dee": 2, "fay": 5}
    assert per_identity(val) == {"ann": 1, "bo": 1, "cy": 1, "dee": 1, "fay": 1}


def test_the_proxy_task_of_the_paper(folder) -> None:
    data = load_identities(folder, identities=3, images_per_identity=6, train_images=4)
    assert data.classes == ("ann", "bo", "fay")  # the only ones with six
    train, val = parts(data)
    assert per_identity(train) == {"ann": 4, "bo": 4, "fay": 4}
    assert per_identity(val) == {"ann": 2, "bo": 2, "fay": 2}
    assert sorted(set(data.train.labels.tolist())) == [0, 1, 2]
    default = load_identities(folder, identities=2, images_per_identity=5)
    train, val = parts(default)
    assert list(per_identity(train).values()) == [4, 4]
    assert list(per_identity(val).values()) == [1, 1]


def test_the_seed_decides_identities_images_and_parts(folder) -> None:
    def draw(seed):
        data = load_identities(
            folder, identities=2, images_per_identity=4, train_images=2, seed=seed
        )
        return data.classes, *map(sorted, parts(data))

    draws = [draw(seed) for seed in range(8)]
    assert draws == [draw(seed) for seed in range(8)]
    assert len({classes for classes, _, _ in draws}) > 2
    assert len({tuple(train) for _, train, _ in draws}) == 8
    splits = [parts(load_identities(folder, seed=seed))[1] for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_drawing_leaves_the_global_generators_alone(folder) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    load_identities(folder, identities=2, images_per_identity=4)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_training_mirrors_and_does_no_more(tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(10):
            pixels = np.zeros((4, 4, 3), dtype=np.uint8)
            pixels[:, :2] = 255
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    data = load_identities(tmp_path, batch_size=8)
    left = torch.tensor([1.0, 1, -1, -1]).expand(3, 4, 4)  # 255 and 0, scaled by 127.5
    torch.manual_seed(0)
    mirrored = 0
    for x, _ in data.train:
        for image in x:
            is_mirrored = torch.equal(image, left.flip(-1))
            assert is_mirrored or torch.equal(image, left)
            mirrored += is_mirrored
    assert 0 < mirrored < 16
    for x, _ in data.val:
        assert torch.equal(x, left.expand(len(x), 3, 4, 4))
    assert data.val.batch_size == 4
    assert (FACE_MEAN.tolist(), FACE_STD.tolist()) == ([0.5], [0.5])


def test_size_and_channels(folder) -> None:
    data = load_identities(folder, channels=1, image_size=8, batch_size=2)
    x, y = next(iter(data.train))
    assert (x.shape, y.shape) == ((2, 1, 8, 8), (2,))


def test_too_few_identities_or_images_are_told(folder, tmp_path) -> None:
    with pytest.raises(DataError, match="3 identities of 6 images or more, 4 are wanted"):
        load_identities(folder, identities=4, images_per_identity=6)
    with pytest.raises(DataError, match="0 identities of 50 images or more, 2 are wanted"):
        load_identities(folder, min_images=50)
    with pytest.raises(DataError, match="no folder"):
        load_identities(tmp_path / "gone")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    with pytest.raises(DataError, match="no identity of two images"):
        load_identities(tmp_path, min_images=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"identities": 1, "images_per_identity": 5}, "identities is 1"),
        ({"identities": 2}, "without images_per_identity"),
        ({"images_per_identity": 1}, "images_per_identity is 1"),
        ({"train_images": 3}, "without identities"),
        ({"train_images": 3, "images_per_identity": 5}, "without identities"),
        ({"identities": 2, "images_per_identity": 5, "train_images": 5}, "train_images is 5 of 5"),
        ({"identities": 2, "images_per_identity": 5, "train_images": 0}, "train_images is 0 of 5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"image_size": 0}, "image_size is 0"),
        ({"min_images": 0}, "min_images is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"validation_share": 1.0}, "validation_share is 1.0"),
        (
            {"identities": 2, "images_per_identity": 5, "train_images": 3, "validation_share": 0.5},
            "no train_images beside it",
        ),
    ],
)
def test_numbers_that_do_not_fit(folder, options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load_identities(folder, **options)


def test_many_images_are_read_from_disk_alike(folder, monkeypatch) -> None:
    whole = load_identities(folder, batch_size=8, seed=3)
    monkeypatch.setattr(image_loaders, "_TENSOR_LIMIT", 100)
    data = load_identities(folder, batch_size=8, seed=3)
    assert isinstance(whole.train, TensorLoader)
    assert not isinstance(data.train, TensorLoader)
    assert data.classes == whole.classes
    ((x, y),), ((same, labels),) = data.val, whole.val
    assert torch.allclose(x, same, atol=1e-6)
    assert torch.equal(y, labels)
    batches = list(data.train)
    assert [len(labels) for _, labels in batches] == [8, 8, 8]
    reds = sorted(round(float(image[0, 0, 0]) * 127.5 + 127.5) for x, _ in batches for image in x)
    assert reds == sorted(int(image[0, 0, 0]) for image in whole.train.images)
    assert (data.mean.tolist(), data.std.tolist()) == ([0.5] * 3, [0.5] * 3)
    assert data.preprocessing.source == "ArcFace"


def test_a_share_of_all_images_validates(folder) -> None:
    for share, count in ((0.01, 1), (0.5, 16), (0.99, 26)):  # of 31 images of five identities
        data = load_identities(folder, validation_share=share, seed=1)
        train, val = parts(data)
        assert len(val) == count
        assert set(per_identity(train)) == set(data.classes), "each has an image to train on"
        assert len(train | val) == 31


def test_a_limit_draws_whole_identities(folder) -> None:
    for seed in range(4):
        full = parts(load_identities(folder, seed=seed))[0]
        data = load_identities(folder, limit=15, seed=seed)
        train, _ = parts(data)
        assert 2 <= len(data.classes) < 5
        assert len(train) <= 15
        assert train == {(name, i) for name, i in full if name in data.classes}
    assert len(load_identities(folder, limit=1).classes) == 2
    assert load_identities(folder, limit=24).classes == load_identities(folder).classes


def test_people_to_verify_with_are_no_identity(folder, tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(folder / "train" / "ann")
    assert load_identities(tmp_path).classes == ("a", "b")
    (tmp_path / "val").symlink_to(folder / "val")
    with pytest.raises(DataError, match=r"holds val/ but no train/\. Put .*/train"):
        load_identities(tmp_path)
