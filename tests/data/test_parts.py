import numpy as np
import pytest

from refiner.core.errors import DataError
from refiner.data import parts
from refiner.data.parts import ImageSet, Part, limited


def part(*labels):
    return Part(items=range(len(labels)), labels=np.array(labels), open=str)


def test_a_part_of_a_part() -> None:
    some = part(0, 1, 0, 1).at(np.array([3, 0]))
    assert (some.items, some.labels.tolist(), len(some)) == ([3, 0], [1, 0], 2)


def test_validation_is_split_off_by_class_and_never_off_the_test_part() -> None:
    images = ImageSet(name="x", classes=("a", "b"), train=part(*[0, 1] * 10), test=part(0, 1))
    train, val, test, notes = images.split(None, seed=0)
    assert (len(train), np.bincount(val.labels).tolist(), test) == (16, [2, 2], images.test)
    assert not set(train.items) & set(val.items)
    assert "no validation part: 4 of its training images validate" in notes[0]


def test_a_validation_part_is_kept() -> None:
    images = ImageSet(name="x", classes=("a", "b"), train=part(0, 1), val=part(1, 0, 1))
    assert images.split(None, seed=0) == (images.train, images.val, None, [])


def test_one_image_per_class_cannot_be_split() -> None:
    images = ImageSet(name="x", classes=("a", "b"), train=part(0, 1))
    with pytest.raises(DataError, match="no class of two images"):
        images.split(None, seed=0)


def test_a_limit_holds_for_each_part(monkeypatch) -> None:
    monkeypatch.setattr(parts, "LEAST_VALIDATION", 4)
    three = [part(*[0, 1] * 10) for _ in range(3)]
    images = ImageSet(name="x", classes=("a", "b"), train=three[0], val=three[1], test=three[2])
    for limit, counts in ((2, [2, 4, 4]), (6, [6, 6, 6]), (99, [20, 20, 20])):
        assert [len(p) for p in images.split(limit, seed=0)[:3]] == counts


def test_limited_indices_are_drawn_by_class() -> None:
    labels = np.array([0] * 8 + [1] * 4)
    assert np.bincount(labels[limited(labels, 6, seed=1)]).tolist() == [4, 2]
    assert limited(labels, None, seed=1).tolist() == list(range(12))
