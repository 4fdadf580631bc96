from dataclasses import replace

from refiner.runs import report_page, report_rows, report_sentences
from refiner.runs.comparison import Baseline
from refiner.runs.report import Report


def test_methods_delegate(report: Report) -> None:
    baseline = Baseline(
        kind="random", name="random search", vector=(1, 1, 1, 1), macs=3, params=4,
        search_score=0.5, trained=0.875,
    )  # fmt: skip
    report = replace(report, search_score=0.25, baselines=(baseline,))
    assert report.to_markdown() == report_page.markdown(report)
    assert report.summary() == report_rows.summary_rows(report)
    assert report.comparison() == report_sentences.baseline_comparison(report)
    assert report.baseline_ahead() == report_sentences.baseline_ahead(report)
    assert report.network_rows()[0] == report_rows.network_head(report)
    assert report.network_rows()[1:] == report_rows.network_rows(report)
    assert report.sentences() == report_sentences.score_sentences(report)


def test_json_gives_a_report_back(report: Report) -> None:
    again = Report.from_json(report.to_json())
    assert type(again) is Report
    assert again == report
