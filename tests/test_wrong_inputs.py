"""Sixty wrong inputs and more: each ends in one line, with exit status 2, before the search."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "wrong_inputs.py"


def wrong_inputs():
    spec = importlib.util.spec_from_file_location("wrong_inputs", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_wrong_input_ends_in_one_line(capsys) -> None:
    module = wrong_inputs()
    assert len(module.inputs()) >= 60
    assert module.run_all() == []


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("error: no.", 2),
        ("error: no.\nand more", -1),
        ("error: no.\nerror: no.", -1),
        ("[1/2] search  3/4\nerror: no.", -1),
        ("", -1),
    ],
)
def test_more_than_one_line_and_a_search_are_seen(text, status) -> None:
    def run() -> int:
        print(text)
        return 2

    assert wrong_inputs().answer(run)[1] == status
