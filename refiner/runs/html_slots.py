"""The slots of the HTML report: bars of MACs and of milliseconds, before and after."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from refiner.cost.latency_table import LatencyTable
from refiner.runs.report_data import ReportData, SlotReport
from refiner.space.candidates import ORIGINAL

_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """What a slot costs before and after."""

    before: float
    """Length in percent of the longest bar of all slots."""
    after: float
    text: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRow:
    """One slot with its bars."""

    name: str
    original: str
    operation: str
    replaced: bool
    macs: Bars
    latency: Bars | None
    """None where the table does not know the slot."""


def slot_rows(report: ReportData, latencies: LatencyTable | None) -> list[SlotRow]:
    """Return a row for each slot, in the order of the report.

    Args:
        report: of a refinement.
        latencies: what latency.json holds; None where there is none.
    """
    macs = [(float(slot.before.macs), float(slot.after.macs)) for slot in report.slots]
    times = [_times(slot, latencies) for slot in report.slots]
    longest = max((time for pair in times if pair for time in pair), default=0.0)
    most = max((count for pair in macs for count in pair), default=0.0)
    return [
        SlotRow(
            name=slot.name,
            original=slot.original,
            operation=slot.operation,
            replaced=slot.operation != ORIGINAL,
            macs=_bars(pair, most, compact, f"{slot.before.macs:,} -> {slot.after.macs:,} MACs"),
            latency=None
            if time is None
            else _bars(time, longest, _milliseconds, f"{time[0]:.4f} -> {time[1]:.4f} ms"),
        )
        for slot, pair, time in zip(report.slots, macs, times, strict=True)
    ]


def compact(count: float) -> str:
    """Return a count in three digits: ``4.72 M``."""
    for size, unit in _UNITS:
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def _milliseconds(time: float) -> str:
    return f"{time:.3f}"


def _times(slot: SlotReport, latencies: LatencyTable | None) -> tuple[float, float] | None:
    """Return the milliseconds of the original and of the candidate, as they were timed."""
    row = {} if latencies is None else latencies.slots.get(slot.name, {})
    if ORIGINAL not in row or slot.operation not in row:
        return None
    return row[ORIGINAL].median, row[slot.operation].median


def _bars(pair: Sequence[float], longest: float, text: Callable[[float], str], title: str) -> Bars:
    before, after = (round(100 * each / longest, 2) if longest > 0 else 0.0 for each in pair)
    old, new = map(text, pair)
    shown = old if old == new else f"{old} → {new}"
    return Bars(before=before, after=after, text=shown, title=title)
