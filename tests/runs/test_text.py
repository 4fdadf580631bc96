from refiner.runs.text import change, comma_separated, markdown_table


def test_numbers() -> None:
    assert (change(200, 150), change(0, 1)) == ("-25.0 %", "n/a")
    assert comma_separated((1, 0, 2)) == "1,0,2"


def test_a_bar_inside_a_cell_does_not_break_the_table() -> None:
    assert markdown_table(("a", "b"), [("x|y", "1")]) == [
        "| a | b |", "| --- | --- |", r"| x\|y | 1 |",
    ]  # fmt: skip
