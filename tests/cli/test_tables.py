"""Tables on terminals of any width."""

import pytest
from refiner.cli.tables import fold, print_table, say

HEAD = ("slot", "operation", "MACs", "ms")
ROWS = [
    ("features.stage1.block0.conv1", "conv3x3 64->64 then conv3x3 64->64", "115,605,504", "12.34"),
    ("", "1 depthwise3x3", "9,216", "0.12"),
]
NAMES = ("features.", "stage1.", "block0.", "conv1")


@pytest.mark.parametrize("columns", [20, 60, 80, 200])
def test_numbers_are_never_broken(columns, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table("slots", HEAD, ROWS, left=2)
    words = capsys.readouterr().out.split()
    assert {number for _, _, *numbers in ROWS for number in numbers} <= set(words)


@pytest.mark.parametrize("columns", [45, 60, 80, 200])
def test_words_are_whole_and_names_fold_after_a_dot(columns, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table("slots", HEAD, ROWS, left=2)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    assert {"conv3x3", "64->64", "then", "depthwise3x3"} <= set(out.split())
    assert all(name in out for name in NAMES)


def test_columns_of_numbers_without_room_follow_below(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    head = ("", *(f"runs/resnet18-{i}\nrefined" for i in range(5)))
    rows = [("MACs", *["1,814,073,344"] * 5), ("latency", *["12.34 ± 0.12 ms"] * 5)]
    print_table("networks", head, rows)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 60
    assert out.count("1,814,073,344") == out.count("12.34 ± 0.12 ms") == 5
    assert "networks (continued)" in out


def test_text_is_folded_where_a_reader_expects_it() -> None:
    assert fold("layer1.0.conv1", 10) == "layer1.0.\nconv1"
    assert fold("in_the_stem of it", 8) == "in_the_\nstem of\nit"
    assert fold("takes 12.34 ms", 8) == "takes\n12.34 ms"
    assert fold("unbreakable", 6) == "unbrea\nkable"
    assert fold("", 6) == ""


def test_sentences_are_wrapped_on_a_terminal_alone(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    say("one sentence of words")
    assert capsys.readouterr().out == "one sentence of words\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    say("one sentence of words")
    assert capsys.readouterr().out == "one sentence\nof words\n"
