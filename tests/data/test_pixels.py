import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from refiner.data.pixels import coloured, fitted, to_tensor, upright

RAMP = np.linspace(0, 65535, 64).round().reshape(8, 8)


def reopened(tmp_path, image, name, **options):
    image.save(tmp_path / name, **options)
    return Image.open(tmp_path / name)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bits_become_eight_by_scaling(tmp_path, name) -> None:
    image = reopened(tmp_path, Image.fromarray(RAMP.astype(np.uint16)), name)
    assert np.asarray(upright(image)).flatten().tolist() == (RAMP / 257).round().flatten().tolist()


def test_sixteen_bits_of_a_dark_image_stay_dark(tmp_path) -> None:
    image = reopened(tmp_path, Image.fromarray((RAMP / 257).astype(np.uint16)), "dark.png")
    assert np.asarray(upright(image)).max() == 1


def test_a_grey_map_of_sixteen_bits(tmp_path) -> None:
    header = b"P5\n8 8\n65535\n"
    (tmp_path / "deep.pgm").write_bytes(header + RAMP.astype(">u2").tobytes())
    pixels = np.asarray(upright(Image.open(tmp_path / "deep.pgm")))
    assert pixels.flatten().tolist() == (RAMP / 257).round().flatten().tolist()


def test_floats_are_scaled_from_one_or_refused(tmp_path) -> None:
    image = reopened(tmp_path, Image.fromarray((RAMP / 65535).astype(np.float32)), "f.tif")
    assert np.asarray(upright(image)).flatten().tolist() == (RAMP / 257).round().flatten().tolist()
    for values in (RAMP / 257, RAMP / 65535 - 0.5, np.full((8, 8), np.nan)):
        image = reopened(tmp_path, Image.fromarray(values.astype(np.float32)), "g.tif")
        with pytest.raises(ValueError, match="floats outside 0 to 1"):
            upright(image)


def test_whole_numbers_of_unknown_range_are_refused(tmp_path) -> None:
    image = reopened(tmp_path, Image.fromarray(RAMP.astype(np.int32)), "wide.tif")
    with pytest.raises(ValueError, match="32 bits"):
        upright(image)


def test_an_image_is_turned_as_its_camera_says(tmp_path) -> None:
    lying = np.zeros((4, 8, 3), dtype=np.uint8)
    lying[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    image = upright(reopened(tmp_path, Image.fromarray(lying), "turned.png", exif=exif))
    assert image.size == (4, 8)
    assert np.asarray(image)[:4].min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_colour(mode, channels) -> None:
    image = Image.new("RGB", (2, 2), (255, 255, 255)).convert("L" if "A" in mode else "RGB")
    tensor = to_tensor(coloured(upright(image.convert(mode)), channels))
    assert tensor.shape == (channels, 2, 2)
    assert tensor.min() >= 254


def test_a_palette_keeps_its_colours_below_transparency(tmp_path) -> None:
    image = Image.new("P", (1, 1))
    image.putpalette([200, 100, 50])
    image.save(tmp_path / "p.png", transparency=bytes([0]))
    assert to_tensor(coloured(Image.open(tmp_path / "p.png"), 3)).flatten().tolist() == [
        200,
        100,
        50,
    ]


@pytest.mark.parametrize("shape", [(40, 90), (91, 40), (33, 33), (300, 201), (10, 7)])
def test_photographs_are_fitted_as_torchvision_does(shape) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = Image.fromarray(drawn)
    theirs = CenterCrop(28)(Resize(32, InterpolationMode.BICUBIC)(image))
    ours = fitted(image, (28, 28), (32, 32), "bicubic")
    assert np.array_equal(np.asarray(theirs), np.asarray(ours))


def test_a_size_of_other_proportions_is_covered() -> None:
    image = Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10))
    assert fitted(image, (5, 10), (5, 10), "nearest").size == (10, 5)
    assert torch.equal(to_tensor(fitted(image, (10, 10), (10, 10), "box")), to_tensor(image))
