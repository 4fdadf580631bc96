import math
from dataclasses import replace

import pytest

from refiner.runs.comparison import Baseline
from refiner.runs.html_files import Extras
from refiner.runs.html_front import front_plot, front_rows
from refiner.runs.report import Report
from refiner.search.pareto import Point


def point(vector: tuple[int, ...], macs: int, score: float, latency: float | None = None) -> Point:
    return Point(vector=vector, macs=macs, params=5, score=score, latency=latency)


BASELINE = Baseline(
    kind="random", name="random search", vector=(1, 1, 1, 1), macs=40, params=5, search_score=0.25
)


def searched(report: Report, budget: str) -> Report:
    return replace(
        report, search_score=0.5, baselines=(BASELINE,), settings=(("budget", budget),),
        latency_predicted=None,
    )  # fmt: skip


def test_marks_lie_at_their_share_of_the_macs_and_their_score(report: Report) -> None:
    report = searched(report, "macs=60%,params=5e6")
    extras = Extras(
        front=(point((2, 2, 2, 2), 20, 0.1), point(report.vector, 50, 0.5)),
        beaten=(point((3, 3, 3, 3), 50, 0.3), point(BASELINE.vector, 40, 0.25)),
        original={"macs": 100.0, "params": 50.0},
    )
    report = replace(report, after=replace(report.after, macs=50))
    plot = front_plot(report, extras)
    assert plot is not None
    kinds = ["beaten", "front", "front", "baseline", "refined"]  # the last lies on top
    assert [mark.kind for mark in plot.marks] == kinds
    at = {mark.kind: (mark.x, mark.y) for mark in plot.marks}
    assert at["refined"][0] == at["beaten"][0]
    assert at["refined"][1] < at["beaten"][1] < at["baseline"][1]
    ticks = {tick.text: tick.at for tick in plot.x_ticks}
    upright = {line.kind: line.start[0] for line in plot.lines if line.kind != "front"}
    assert upright == {"whole": ticks["100 %"], "budget": ticks["60 %"]}
    assert len([line for line in plot.lines if line.kind == "front"]) == 1
    title = plot.marks[1].title.splitlines()
    assert title[1:4] == ["architecture 2,2,2,2", "20 MACs (20 %)", "5 parameters (10 %)"]
    assert title[-1] == "accuracy 0.1000"


def test_a_budget_of_milliseconds_makes_them_the_cost(report: Report) -> None:
    predicted = report.latency_predicted
    report = replace(searched(report, "latency=2ms"), latency_predicted=predicted)
    extras = Extras(
        front=(point((2, 2, 2, 2), 20, 0.1, 1.0), point((3, 3, 3, 3), 10, 0.1, 2.0)),
        original={"macs": 100.0, "latency": 2.5},
    )
    plot = front_plot(report, extras)
    assert plot is not None
    assert plot.x_label == "share of the original's milliseconds, as predicted"
    kinds = ["front", "front", "refined"]  # nobody knows the baseline's time
    assert [mark.kind for mark in plot.marks] == kinds
    assert not [line for line in plot.lines if line.kind == "front"]  # the second only saves MACs
    assert "1.00 ms, predicted (40 %)" in plot.marks[0].title
    ticks = {tick.text: tick.at for tick in plot.x_ticks}
    assert [line.start[0] for line in plot.lines if line.kind == "budget"] == [ticks["80 %"]]
    assert front_rows(report, extras)[0][3] == "ms, predicted"


def test_the_original_is_drawn_where_its_score_is_known(report: Report) -> None:
    extras = Extras(front=(point((2, 2, 2, 2), 20, -0.5),), original={"macs": 100.0})
    distilled = replace(searched(report, "none"), top_k=((report.vector, 0.5, -0.125),))
    plot = front_plot(distilled, extras)
    assert plot is not None
    assert "agreement 0.0000" in plot.marks[0].title
    validated = front_plot(replace(searched(report, "none"), scored_on="validation"), extras)
    assert validated is not None
    assert "accuracy 0.6250" in validated.marks[0].title


def test_rows_hold_all_architectures_by_their_macs(report: Report) -> None:
    front = (point((2, 2, 2, 2), 20, 0.1), point(BASELINE.vector, 40, 0.25))
    extras = Extras(front=front, original={"macs": 100.0})
    head, *rows = front_rows(searched(report, "none"), extras)
    assert head == ("network", "MACs", "parameters", "accuracy", "architecture")
    assert rows[:2] == [
        ("Pareto front", "20", "5", "0.1000", "2,2,2,2"),
        ("random search", "40", "5", "0.2500", "1,1,1,1"),
    ]
    assert {row[0] for row in rows[2:]} == {"original", "refined network"}
    assert front_plot(report, Extras()) is None


@pytest.mark.parametrize("cost", [0.0, -1.0, math.nan, math.inf, 1e-320])
@pytest.mark.parametrize("budget", ["macs=5e6", "latency=2ms", "macs=60%", "<b>"])
def test_a_front_without_usable_costs_is_drawn_all_the_same(
    report: Report, budget: str, cost: float
) -> None:
    extras = Extras(
        front=(point((2, 2, 2, 2), 20, math.nan, math.inf),),
        original={"macs": cost, "latency": cost},
    )
    for by_time in (report.latency_predicted, None):
        plot = front_plot(replace(searched(report, budget), latency_predicted=by_time), extras)
        assert plot is not None
        assert all(0 <= mark.x <= 100 and 0 <= mark.y <= 100 for mark in plot.marks)
