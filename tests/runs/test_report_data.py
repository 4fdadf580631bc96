import json
from dataclasses import replace

import pytest

from refiner.core.errors import RunError
from refiner.runs.comparison import Baseline
from refiner.runs.report import Report
from refiner.runs.report_data import ReportData


def test_json_round_trip(report: Report) -> None:
    document = json.loads(json.dumps(report.to_json()))
    assert document["format_version"] == 2
    assert Report.from_json(document) == report
    assert type(ReportData.from_json(document)) is ReportData
    with pytest.raises(RunError, match="damaged"):
        Report.from_json({})


def test_a_report_of_version_1_has_scores_of_the_validation_images(report: Report) -> None:
    document = report.to_json() | {"format_version": 1}
    for name in ("scored_on", "original_score", "refined_score"):
        del document[name]
    del document["trained"]["validation"]
    old = Report.from_json(document)
    assert (old.scored_on, old.original_score, old.refined_score) == ("validation", None, None)
    assert old.score_name == "validation accuracy"
    assert old.trained == replace(report.trained, validation=None)


def test_a_report_of_a_newer_version_is_refused(report: Report) -> None:
    with pytest.raises(RunError, match="format version 3, and this refiner reads up to 2"):
        Report.from_json(report.to_json() | {"format_version": 3})


def test_the_search_goes_by_agreement_or_by_the_tasks_score(report: Report) -> None:
    baseline = Baseline(
        kind="random", name="random search", vector=(1,), macs=1, params=1, search_score=0.5,
        agreement=-0.25,
    )  # fmt: skip
    plain = replace(report, search_score=0.75)
    assert (plain.measure, plain.found, plain.found_of(baseline)) == ("accuracy", 0.75, 0.5)
    distilled = replace(plain, top_k=(((1, 0, 0, 2), 0.75, -0.125),))
    assert (distilled.measure, distilled.found) == ("agreement", -0.125)
    assert distilled.found_of(baseline) == -0.25


def test_a_report_written_before_runtimes_were_kept_is_read(report: Report) -> None:
    document = report.to_json()
    del document["latencies"], document["latency_predicted"]
    assert Report.from_json(document).latencies == ()
    document |= {"latency_before": 2.0, "latency_after": 1.0, "latency_batch": 3}
    rows = Report.from_json(document).summary()
    expected = ("latency in eager, batch 3", "2.00 ± 0.00 ms", "1.00 ± 0.00 ms", "-50.0 %")
    assert expected in rows
    assert not any("predicted" in row[0] for row in rows)
    (pair,) = Report.from_json(document | {"latency_noise": [0.25, 0.125]}).latencies
    assert (pair.before.noise, pair.after.noise) == (0.25, 0.125)


def test_a_distilled_report_has_its_agreement(report: Report) -> None:
    plain = replace(report, top_k=(((1, 0, 0, 2), 0.5, None), ((0, 0, 0, 0), 0.25, None)))
    distilled = replace(report, top_k=(((1, 0, 0, 2), 0.5, -0.125), ((0, 0, 0, 0), 0.75, -0.25)))
    for each in (plain, distilled):
        assert Report.from_json(json.loads(json.dumps(each.to_json()))) == each
    assert (plain.distilled, plain.agreement) == (False, None)
    assert (distilled.distilled, distilled.agreement) == (True, -0.125)
    document = plain.to_json() | {"top_k": [[[1, 0, 0, 2], 0.5], [[0, 0, 0, 0], 0.25]]}
    assert Report.from_json(document) == plain  # as older versions wrote it


def test_the_origin_names_what_the_settings_hold(report: Report) -> None:
    settings = (("data", "digits"), ("seed", "0"), ("model", "timm:resnet18"))
    assert replace(report, settings=settings).origin() == "model timm:resnet18; data digits"
