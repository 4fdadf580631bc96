from dataclasses import dataclass
from typing import Any, Literal

import pytest

from refiner.core.records import checked_record


@dataclass(frozen=True, slots=True)
class Inner:
    share: float


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    count: int
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = ()
    pair: tuple[str, float] | None = None
    inner: Inner | None = None
    table: dict[str, int] | None = None
    anything: Any = None


def test_right_records_come_back() -> None:
    record = Record("x", 1, "b", (1, 2), ("y", 2), Inner(1.5), {"a": 1}, object())
    assert checked_record(record) is record


WRONG = {
    "a bool for a number": Record("x", True),
    "a text for a number": Record("x", "1"),
    "a number for a text": Record(1, 1),
    "another choice": Record("x", 1, "c"),
    "a list for a tuple": Record("x", 1, sizes=[1]),
    "a part of a tuple": Record("x", 1, sizes=(1, "2")),
    "a tuple of another length": Record("x", 1, pair=("y", 1.0, 2)),
    "an inner record": Record("x", 1, inner=Inner("0.5")),
    "a dict for a record": Record("x", 1, inner={"share": 0.5}),
    "a value of a table": Record("x", 1, table={"a": None}),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_wrong_ones_are_named(case: str) -> None:
    with pytest.raises(TypeError, match=r"Record\.|a key"):
        checked_record(WRONG[case])


def test_numbers_are_finite_where_that_is_asked_for() -> None:
    checked_record(Inner(float("nan")))
    with pytest.raises(ValueError, match="Inner.share is nan"):
        checked_record(Inner(float("nan")), finite=True)
