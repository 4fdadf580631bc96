from refiner.core.files import write_text


def test_a_file_is_replaced_in_one_piece(tmp_path) -> None:
    file = tmp_path / "a.txt"
    for text in ("one", "two"):
        write_text(file, text)
        assert file.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
