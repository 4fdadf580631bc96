from dataclasses import replace

from refiner.runs.html_figures import figures, heading, share
from refiner.runs.report import Report


def test_milliseconds_come_first_with_a_budget_of_them(report: Report) -> None:
    first, second, third = figures(report)
    assert (first.value, first.label) == ("50 %", "of the milliseconds")
    assert first.detail == "1.00 of 2.00 ms in eager, batch 1"
    after, before = report.after.params, report.before.params
    assert (second.value, second.label) == (share(after, before), "of the parameters")
    assert (third.value, third.label) == ("0.7500", "test accuracy after 3 epochs")
    assert third.detail == "original 0.5000, difference +0.2500"
    counted = figures(replace(report, latency_predicted=None))[0]
    assert counted.label == "of the MACs"
    assert counted.detail == f"{report.after.macs:,} of {report.before.macs:,}"


def test_the_last_score_is_shown_or_how_many_slots_were_replaced(report: Report) -> None:
    untrained = replace(report, trained=None)
    assert figures(untrained)[2].label == "test accuracy before fine-tuning"
    searched = replace(untrained, refined_score=None, top_k=((report.vector, 0.5, -0.125),))
    assert figures(searched)[2].detail == "original 0.0000, difference -0.1250"
    assert figures(searched)[2].label == "agreement in the search"
    plain = replace(untrained, refined_score=None)
    assert figures(plain)[2].value == "2 of 4"


def test_the_heading_names_the_model_without_its_folders(report: Report) -> None:
    named = replace(report, settings=(("model", "/home/me/net.py:build"),))
    assert heading(named, "timm:resnet18") == "net.py:build"
    assert heading(report, "timm:resnet18") == "timm:resnet18"
    assert heading(report, None) == "Refined network"


def test_a_share_of_nothing_is_not_known() -> None:
    assert [share(1, 3), share(1, 0)] == ["33 %", "n/a"]
