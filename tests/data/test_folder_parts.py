import shutil

import pytest
from image_folders import fill

from refiner.core.errors import DataError
from refiner.data.folder_parts import copies_note, folder_images, part_folders

TWO = ["a", "b"]


def sizes(images):
    return [None if part is None else len(part) for part in (images.train, images.val, images.test)]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Training", "Validation", "Testing"),
        ("TRAIN", "valid", "Test"),
        ("training", "dev", "testing"),
    ],
)
def test_parts_have_the_names_that_people_use(tmp_path, train, val, test) -> None:
    for count, name in enumerate((train, val, test), 2):
        fill(tmp_path / name, TWO, count)
    assert sizes(folder_images(tmp_path)) == [4, 6, 8]
    shutil.rmtree(tmp_path / val)
    assert sizes(folder_images(tmp_path)) == [4, None, 8]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train2017", "test2017"),
        ("images-Train", "images-Test"),
        ("train/train", "test/test"),
    ],
)
def test_parts_whose_names_hold_more_are_no_classes(tmp_path, train, test) -> None:
    fill(tmp_path / train, TWO, 3)
    fill(tmp_path / test, TWO, 2)
    fill(tmp_path / "others", TWO, 2)
    images = folder_images(tmp_path)
    assert (sizes(images), images.classes) == ([6, None, 4], ("a", "b"))
    assert [note.rpartition(": ")[2] for note in images.notes] == ["others."]


def test_classes_whose_names_hold_those_of_parts_stay_classes(tmp_path) -> None:
    fill(tmp_path / "train_station", ["inside", "outside"])
    fill(tmp_path / "test_tube", ["inside", "outside"])
    assert folder_images(tmp_path).classes == ("test_tube", "train_station")
    fill(tmp_path / "old_train", ["wood"])
    fill(tmp_path / "old_test", ["paper"])
    assert len(folder_images(tmp_path).classes) == 4


def test_images_without_class_folders_are_told(tmp_path) -> None:
    fill(tmp_path, ["train"])
    with pytest.raises(DataError, match=r"Make a folder of images per class in .*train\."):
        folder_images(tmp_path)


def test_a_folder_of_classes_has_one_part(tmp_path) -> None:
    images = folder_images(fill(tmp_path, TWO))
    assert (sizes(images), images.classes) == ([6, None, None], ("a", "b"))


def test_a_class_may_be_called_train(tmp_path) -> None:
    images = folder_images(fill(tmp_path, ["bus", "train", "test"]))
    assert images.classes == ("bus", "test", "train")


def test_two_folders_of_one_part_are_refused(tmp_path) -> None:
    for name in ("train", "val", "valid"):
        fill(tmp_path / name, TWO)
    with pytest.raises(DataError, match="holds val and valid, which name one part"):
        folder_images(tmp_path)


def test_a_lone_validation_part_is_refused(tmp_path) -> None:
    fill(tmp_path / "valid", TWO)
    with pytest.raises(DataError, match="holds valid but no training part"):
        part_folders(tmp_path)


@pytest.mark.parametrize("part", ["val", "test"])
def test_classes_that_differ_are_refused_with_both_lists(tmp_path, part) -> None:
    fill(tmp_path / "train", ["a", "b", "c"])
    fill(tmp_path / part, ["a", "b"])
    with pytest.raises(DataError, match=rf"{part} lacks c of "):
        folder_images(tmp_path)
    fill(tmp_path / part, ["C"])
    with pytest.raises(
        DataError, match=rf"{part} has C, which .*train lacks; .*{part} lacks c of "
    ):
        folder_images(tmp_path)
    shutil.rmtree(tmp_path / "train" / "c")
    with pytest.raises(DataError, match=rf"{part} has C, which .*train lacks\. Rename"):
        folder_images(tmp_path)


def test_a_test_part_without_classes_is_not_used_and_that_is_told(tmp_path) -> None:
    fill(tmp_path / "train", TWO)
    fill(tmp_path / "test", ["."])
    images = folder_images(tmp_path)
    assert images.test is None
    assert f"{tmp_path}/test holds no images in class folders, so it is not used." in images.notes


def test_images_beside_the_parts_are_told(tmp_path) -> None:
    fill(tmp_path / "train", TWO)
    fill(tmp_path, ["extra"])
    (tmp_path / "train" / "a" / "list.csv").write_text("")
    left, beside = folder_images(tmp_path).notes
    assert "1 .csv" in left
    assert "images beside train are left out: extra" in beside


def test_one_class_is_refused_with_the_folder_that_was_meant(tmp_path) -> None:
    fill(tmp_path / "one", ["a"])
    with pytest.raises(DataError, match="only one class, 'a'. Add another class"):
        folder_images(tmp_path / "one")
    fill(tmp_path / "unpacked" / "pets" / "train", TWO)
    with pytest.raises(DataError, match=r"Did you mean folder:.*unpacked/pets\?"):
        folder_images(tmp_path / "unpacked")


def test_copies_in_two_parts_are_told(tmp_path) -> None:
    images = folder_images(fill(tmp_path, TWO, suffix="bmp"))  # all of one size
    train, val = images.train.items[:4], images.train.items[4:]
    assert copies_note(train, val, "validation") == []
    shutil.copy(train[0], val[0])
    expected = "1 of the 2 validation images are copies of training images."
    assert copies_note(train, val, "validation") == [expected]
