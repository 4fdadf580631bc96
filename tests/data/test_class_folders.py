import os
import unicodedata

import pytest
from image_folders import fill

from refiner.core.errors import DataError
from refiner.data.class_folders import list_images, listed


def names(listing):
    return [file.name for file in listing.files]


def test_classes_are_sorted_and_files_listed_below_them_at_any_depth(tmp_path) -> None:
    fill(tmp_path, ["b", "a/deep"], 1)
    listing = list_images(tmp_path)
    assert [f.parent.name for f in listing.files] == ["deep", "b"]
    assert (listing.labels, listing.classes) == ([0, 1], ["a", "b"])
    assert listing.notes(tmp_path) == []


@pytest.mark.parametrize("suffix", ["jfif", "gif", "avif", "JPEG", "TIF", "pgm", "webp"])
def test_suffixes_that_people_use(tmp_path, suffix) -> None:
    fill(tmp_path, ["a", "b"], 2, suffix="png")
    for file in (tmp_path / "b").iterdir():
        file.rename(file.with_suffix(f".{suffix}"))
    assert list_images(tmp_path).labels == [0, 0, 1, 1]


def test_missing_and_empty_folders_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="no folder"):
        list_images(tmp_path / "nothing")
    with pytest.raises(DataError, match="no images in class folders. Lay"):
        list_images(tmp_path)
    fill(tmp_path, ["."], 2)
    with pytest.raises(DataError, match="but 2 images beside them"):
        list_images(tmp_path)


def test_hidden_files_and_folders_are_not_seen(tmp_path) -> None:
    fill(tmp_path, ["a", "b", "a/.ipynb_checkpoints", "__MACOSX", ".cache", "b/@eaDir"], 2)
    (tmp_path / "a" / "._0.png").write_bytes(b"\0\5\x16\7Mac OS X")
    for hidden in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / "a" / hidden).write_text("")
    listing = list_images(tmp_path)
    assert names(listing) == ["0.png", "1.png"] * 2
    assert not listing.left_out


def test_what_is_left_out_is_told(tmp_path) -> None:
    fill(tmp_path, ["a", "b"], 1)
    for name in ("a/1.txt", "b/2.txt", "b/3.pdf", "readme"):
        (tmp_path / name).write_text("")
    fill(tmp_path, ["."], 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    left, empty = list_images(tmp_path).notes(tmp_path)
    assert "6 files are left out, which are not images: 2 .txt" in left
    for part in ("1 .pdf", "1 .png outside the class folders", "1 without a suffix", "1 broken"):
        assert part in left
    assert "1 class folder is empty and left out: empty." in empty


def test_links_are_followed_and_a_circle_ends(tmp_path) -> None:
    elsewhere = fill(tmp_path / "elsewhere", ["x"], 2)
    fill(tmp_path / "data", ["a", "b"], 1)
    (tmp_path / "data" / "b" / "more").symlink_to(elsewhere / "x", target_is_directory=True)
    (tmp_path / "data" / "b" / "loop").symlink_to(tmp_path / "data" / "b", True)
    (tmp_path / "data" / "c").symlink_to(elsewhere / "x", target_is_directory=True)
    os.symlink(tmp_path / "data" / "a" / "0.png", tmp_path / "data" / "a" / "twin.png")
    assert list_images(tmp_path / "data").labels == [0, 0, 1, 1, 1, 2, 2]


def test_a_folder_with_the_name_of_an_image_is_no_image(tmp_path) -> None:
    fill(tmp_path, ["a/album.png", "b"], 1)
    assert names(list_images(tmp_path)) == ["0.png", "0.png"]


def test_accents_have_one_form(tmp_path) -> None:
    fill(tmp_path, [unicodedata.normalize("NFD", "café"), "日本"], 1)
    assert list_images(tmp_path).classes == [unicodedata.normalize("NFC", "café"), "日本"]


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefg")) == "a, b, c, d, e, ... (7 in all)"
