import numpy as np
import pytest
import torch
from PIL import Image

from refiner.core.errors import DataError
from refiner.core.randomness import seeded
from refiner.data.image_folder import (
    common_size,
    disk_loader,
    list_images,
    photo_transform,
    plain_transform,
    read_images,
)


def write(path, size=(6, 5), value=7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, dtype=np.uint8)).save(path)


def test_classes_are_sorted_and_files_listed_below_them(tmp_path) -> None:
    write(tmp_path / "b" / "1.png")
    write(tmp_path / "a" / "deep" / "2.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    files, labels, names = list_images(tmp_path)
    assert [f.name for f in files] == ["2.png", "1.png"]
    assert (labels, names) == ([0, 1], ["a", "b"])


def test_missing_empty_and_unknown_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="no folder"):
        list_images(tmp_path / "nothing")
    with pytest.raises(DataError, match="no images"):
        list_images(tmp_path)
    write(tmp_path / "x" / "1.png")
    with pytest.raises(DataError, match="class 'x'"):
        list_images(tmp_path, classes=["y"])


def test_pixels_sizes_and_channels(tmp_path) -> None:
    write(tmp_path / "1.png", value=9)
    write(tmp_path / "2.png", size=(8, 8), value=3)
    files = [tmp_path / "1.png", tmp_path / "2.png"]
    assert common_size(files[:1]) == (5, 6)
    assert common_size(files) is None
    images = read_images(files, 1, (4, 4))
    assert images.dtype == torch.uint8
    assert images.flatten(1).unique(dim=1).flatten().tolist() == [9, 3]


def test_an_unreadable_image_is_named(tmp_path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match="bad.png"):
        read_images([tmp_path / "bad.png"], 3, (4, 4))


def test_the_disk_loader_reads_what_the_tensors_hold(tmp_path) -> None:
    for i in range(4):
        write(tmp_path / f"{i}.png", size=(8, 8), value=51 * i)
    files, half, quarter = (
        sorted(tmp_path.glob("*.png")),
        torch.tensor([0.5] * 3),
        torch.tensor([0.25] * 3),
    )
    transform = plain_transform((8, 8), mean=half, std=quarter, train=False, pad=1)
    loader = disk_loader(files, [0, 1, 2, 3], 3, transform, 4, train=False, size=(8, 8))
    x, y = next(iter(loader))
    assert y.tolist() == [0, 1, 2, 3]
    assert torch.allclose(x[:, 0, 0, 0], (torch.arange(4) * 0.2 - 0.5) / 0.25, atol=1e-6)


def test_sixteen_bits_become_eight_by_scaling(tmp_path) -> None:
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    pixels = read_images([tmp_path / "deep.png"], 1, (8, 8)).flatten()
    assert pixels.tolist() == [round(v / 257) for v in ramp.flatten().tolist()]


def test_hidden_and_empty_folders_are_no_classes(tmp_path) -> None:
    for name in (".cache", "a", "empty"):
        (tmp_path / name).mkdir()
    write(tmp_path / "a" / "x.png", size=(8, 8), value=0)
    write(tmp_path / ".cache" / "x.png", size=(8, 8), value=0)
    assert list_images(tmp_path)[2] == ["a"]


def test_photographs_keep_their_proportions() -> None:
    scale = {"mean": torch.zeros(3), "std": torch.ones(3)}
    wide = torch.zeros(3, 40, 120, dtype=torch.uint8)
    wide[:, :, 40:80] = 255  # a white square in the middle
    centre = photo_transform((28, 28), train=False, **scale)(wide)
    assert centre.shape == (3, 28, 28)
    assert centre.min() > 0.9  # squashed, the black sides would show
    with seeded(0):
        cuts = [photo_transform((28, 28), train=True, **scale)(wide) for _ in range(20)]
    assert {cut.shape for cut in cuts} == {(3, 28, 28)}
    assert len({float(cut.mean()) for cut in cuts}) > 5
