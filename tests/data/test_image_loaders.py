import numpy as np
import pytest
import torch
from image_folders import fill
from PIL import Image

from refiner.core.preprocessing import Preprocessing
from refiner.core.randomness import seeded
from refiner.data.folder_parts import folder_images
from refiner.data.image_loaders import disk_loader, fits_in_memory, memory_loader, normalised
from refiner.data.parts import Part

PREPARED = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), size=(8, 8), source="here")


@pytest.mark.parametrize("shape", [(8, 8), (9, 21)])
def test_both_loaders_validate_with_the_same_bits(tmp_path, shape) -> None:
    images = folder_images(fill(tmp_path, ["a", "b"], size=shape)).train
    ((a, labels),) = memory_loader(images, PREPARED, 8, train=False)
    ((b, others),) = disk_loader(images, PREPARED, 8, train=False, photos=True)
    assert torch.equal(a, b)
    assert labels.tolist() == others.tolist() == [0, 0, 0, 1, 1, 1]


def test_values_are_normalised() -> None:
    pixels = torch.full((3, 1, 1), 51, dtype=torch.uint8)
    assert normalised(pixels, PREPARED).flatten().tolist() == pytest.approx([-1.5, -2 / 3, -0.25])


def test_photographs_are_cut_at_random_in_training_and_never_squashed() -> None:
    wide = np.zeros((40, 120, 3), dtype=np.uint8)
    wide[:, 40:80] = 255  # a white square in the middle
    part = Part(items=[0], labels=np.array([1]), open=lambda _: Image.fromarray(wide))
    flat = Preprocessing(mean=(0,) * 3, std=(1,) * 3, size=(28, 28), resize=(32, 32), source="x")
    (centre, label) = disk_loader(part, flat, 1, train=False, photos=True).dataset[0]
    assert (centre.shape, label) == ((3, 28, 28), 1)
    assert centre.min() > 0.9  # squashed, the black sides would show
    cuts = disk_loader(part, flat, 1, train=True, photos=True).dataset
    with seeded(0):
        drawn = [cuts[0][0] for _ in range(20)]
    assert {cut.shape for cut in drawn} == {(3, 28, 28)}
    assert len({float(cut.mean()) for cut in drawn}) > 5


def test_images_of_one_size_are_shifted_and_mirrored(tmp_path) -> None:
    images = folder_images(fill(tmp_path, ["a", "b"])).train
    for flip, pad, kinds in ((False, 0, 1), (True, 0, 2), (False, 1, 9)):
        dataset = disk_loader(
            images, PREPARED, 1, train=True, photos=False, pad=pad, flip=flip
        ).dataset
        with seeded(0):
            drawn = {dataset[0][0].numpy().tobytes() for _ in range(60)}
        assert len(drawn) == kinds


def test_memory_has_its_limit() -> None:
    assert fits_in_memory(10_000_000, PREPARED)
    assert not fits_in_memory(12_000_000, PREPARED)
