"""Tables on terminals of any width."""

import pytest
from refiner.cli.screen import print_table

HEAD = ("slot", "operation", "MACs", "ms")
ROWS = [
    ("features.stage1.block0.conv1", "conv3x3 64->64 then conv3x3 64->64", "115,605,504", "12.34"),
    ("", "1 depthwise3x3", "9,216", "0.12"),
]


@pytest.mark.parametrize("columns", [20, 60, 80, 200])
def test_numbers_are_never_broken(columns, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table("slots", HEAD, ROWS, left=2)
    lines = capsys.readouterr().out.splitlines()
    for _, _, *numbers in ROWS:
        assert any(line.split()[-2:] == numbers for line in lines), numbers
    if columns >= 60:
        assert max(map(len, lines)) <= columns
