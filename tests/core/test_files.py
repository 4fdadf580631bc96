import os

import pytest

from refiner.core.files import read_json, write_text


def test_a_file_is_replaced_in_one_piece(tmp_path) -> None:
    file = tmp_path / "a.txt"
    for text in ("one", "two"):
        write_text(file, text)
        assert file.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_broken_off_run_or_a_stranger_left_is_not_written_through(tmp_path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "a.txt.partial").symlink_to(other)
    write_text(tmp_path / "a.txt", "new")
    assert other.read_text() == "mine"
    assert (tmp_path / "a.txt").read_text() == "new"
    (tmp_path / "b.txt").symlink_to(other)
    write_text(tmp_path / "b.txt", "new")
    assert other.read_text() == "mine"


JSON = {
    "deep": ("[" * 5000 + "]" * 5000, "nested too deeply"),
    "rather deep": ("[" * 100 + "]" * 100, "nested too deeply"),
    "no number": ('{"a": NaN}', "it holds NaN"),
    "infinite": ("[-Infinity]", "it holds -Infinity"),
    "a large number": ("[9223372036854775808]", "beyond 64 bits"),
    "half a letter": ('["\\ud800"]', "surrogates"),
    "half a letter in a key": ('{"\\ud800": 1}', "surrogates"),
    "no json": ("{", "Expecting"),
}


@pytest.mark.parametrize("case", list(JSON))
def test_json_that_no_file_of_ours_holds(case: str, tmp_path) -> None:
    text, message = JSON[case]
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")


def test_scores_may_be_no_number(tmp_path) -> None:
    (tmp_path / "a.json").write_text("[NaN]")
    assert str(read_json(tmp_path / "a.json", finite=False)) == "[nan]"


def test_pipes_devices_and_huge_files_are_not_read(tmp_path, monkeypatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(ValueError, match="not a regular file"):
            read_json(tmp_path / name)
    (tmp_path / "a.json").write_text("[1]")
    monkeypatch.setattr("refiner.core.files._MOST_BYTES", 2)
    with pytest.raises(ValueError, match="more than 2"):
        read_json(tmp_path / "a.json")
