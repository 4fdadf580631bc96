from dataclasses import replace

from refiner.cost.latency import Conditions, Latency
from refiner.cost.latency_table import LatencyTable
from refiner.runs.html_slots import compact, slot_rows
from refiner.runs.report import Report


def latency(milliseconds: float) -> Latency:
    return Latency(median=milliseconds, noise=0.0)


def test_bars_are_shares_of_the_longest(report: Report) -> None:
    rows = slot_rows(report, None)
    assert [row.name for row in rows] == [slot.name for slot in report.slots]
    assert [row.replaced for row in rows] == [True, False, False, True]
    most = max(slot.before.macs for slot in report.slots)
    for row, slot in zip(rows, report.slots):
        assert row.macs.before == round(100 * slot.before.macs / most, 2)
        assert row.macs.after == round(100 * slot.after.macs / most, 2)
        assert row.macs.title == f"{slot.before.macs:,} -> {slot.after.macs:,} MACs"
        assert ("→" in row.macs.text) == row.replaced
        assert row.latency is None


def test_milliseconds_are_those_of_the_table(report: Report) -> None:
    first, second, *_ = report.slots
    table = LatencyTable(
        conditions=Conditions(runtime="eager 2", device="a CPU", batch=1, precision="no"),
        model=latency(9.0),
        slots={
            first.name: {"original": latency(2.0), first.operation: latency(0.5)},
            second.name: {"depthwise3x3": latency(1.0)},
        },
    )
    rows = slot_rows(report, table)
    assert rows[0].latency is not None
    assert (rows[0].latency.before, rows[0].latency.after) == (100.0, 25.0)
    assert rows[0].latency.text == "2.000 → 0.500"
    assert [row.latency for row in rows[1:]] == [None] * 3  # the table does not know them
    assert slot_rows(replace(report, slots=()), table) == []


def test_counts_are_short() -> None:
    assert [compact(n) for n in (7, 1234, 4_718_592, 2e9)] == ["7", "1.23 k", "4.72 M", "2 G"]
