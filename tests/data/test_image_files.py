import pickle

import numpy as np
import pytest
import torch
from image_folders import fill
from PIL import Image
from torch.utils.data import DataLoader

from refiner.core.errors import DataError
from refiner.data import image_files
from refiner.data.folder_parts import folder_images
from refiner.data.image_files import (
    ImageError,
    as_they_are,
    check_depth,
    common_size,
    read,
    read_images,
    sample,
)
from refiner.data.image_loaders import disk_loader
from refiner.data.parts import Part


def part(*files):
    return Part(items=files, labels=np.zeros(len(files), dtype=np.int64), open=Image.open)


def test_pixels_and_channels(tmp_path) -> None:
    for i, (size, value) in enumerate((((6, 5), 9), ((8, 8), 3))):
        Image.new("RGB", size, (value,) * 3).save(tmp_path / f"{i}.png")
    images = read_images([tmp_path / "0.png", tmp_path / "1.png"], 1, (4, 4))
    assert (images.dtype, images.shape) == (torch.uint8, (2, 1, 4, 4))
    assert images.flatten(1).unique(dim=1).flatten().tolist() == [9, 3]
    whole = read(part(tmp_path / "0.png"), 0, 3, None)
    assert whole.shape == (3, 5, 6)


def test_the_size_that_all_share_counts_turned_ones(tmp_path) -> None:
    images = folder_images(fill(tmp_path, ["a", "b"], size=(4, 6))).train
    assert common_size(images) == (4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 6)).save(tmp_path / "turned.png", exif=exif)
    turned = part(tmp_path / "turned.png")
    assert common_size(images, turned) == (4, 6)
    Image.new("RGB", (6, 5)).save(tmp_path / "other.png")
    assert common_size(images, part(tmp_path / "other.png")) is None


def test_of_many_images_some_are_read(monkeypatch) -> None:
    monkeypatch.setattr(image_files, "_SAMPLED", 3)
    assert sample(part(*range(9))).items == [0, 3, 6]


@pytest.mark.parametrize("content", [b"no image", b"", b"\x89PNG\r\n\x1a\n"])
def test_an_unreadable_image_is_named(tmp_path, content) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"bad.png is not a readable image. Remove"):
        read_images([tmp_path / "bad.png"], 3, (4, 4))


def test_an_image_that_is_cut_off_is_named(tmp_path) -> None:
    fill(tmp_path, ["."], 1, suffix="bmp", size=(32, 32))
    whole = (tmp_path / "0.bmp").read_bytes()
    (tmp_path / "0.bmp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"0.bmp is not a readable image"):
        read_images([tmp_path / "0.bmp"], 3, (4, 4))


def test_numbers_without_a_range_are_named_with_the_reason(tmp_path) -> None:
    Image.fromarray(np.full((4, 4), 7.0, dtype=np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x.tif is not a readable image \(it holds floats"):
        read_images([tmp_path / "x.tif"], 3, (4, 4))


def test_an_image_of_a_data_set_that_fails_to_decode_is_named() -> None:
    def decode(index: int) -> Image.Image:
        raise OSError("broken data stream when reading image file")

    damaged = Part(items=range(3), labels=np.zeros(3, dtype=np.int64), open=decode, prefix="hf:x ")
    for reads in (
        lambda: read(damaged, 2, 3, None),
        lambda: common_size(damaged.at(np.array([2]))),
    ):
        with pytest.raises(ImageError, match="^hf:x 2 is not a readable image. Remove or replace"):
            reads()


def test_an_error_out_of_a_worker_is_one_line(tmp_path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    dataset = disk_loader(
        part(tmp_path / "bad.png"), as_they_are(3, (4, 4)), 1, train=False, photos=False
    ).dataset
    with pytest.raises(ImageError) as caught:
        list(DataLoader(dataset, num_workers=1))
    assert str(caught.value) == f"{tmp_path}/bad.png is not a readable image. Remove or replace it."
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_picture_cut_off_is_told_where_sizes_are_read(tmp_path) -> None:
    folder = fill(tmp_path, ["a", "b"], size=(40, 40))
    whole = (folder / "a" / "1.png").read_bytes()
    (folder / "a" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"a/1\.png is not a readable image\. Remove"):
        common_size(folder_images(folder).train)


@pytest.mark.parametrize(("most", "fits"), [(255, False), (4095, False), (4096, True)])
def test_sixteen_bits_of_which_few_are_used_are_refused(tmp_path, most, fits) -> None:
    for i in range(3):
        values = np.full((4, 4), most // (3 - i), dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / f"{i}.png")
    dark = part(*(tmp_path / f"{i}.png" for i in range(3)))
    if fits:
        check_depth(dark)
    else:
        with pytest.raises(ImageError, match=rf"values up to {most:,} of 65,535 and would be"):
            check_depth(dark)


def test_eight_bits_and_black_images_are_not_refused(tmp_path) -> None:
    Image.new("RGB", (4, 4), (3, 3, 3)).save(tmp_path / "0.png")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "1.png")
    check_depth(part(tmp_path / "0.png", tmp_path / "1.png"))
