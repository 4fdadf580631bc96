from dataclasses import replace

import pytest
from models import measured_latency

from refiner.runs.comparison import Baseline
from refiner.runs.report import Report
from refiner.runs.report_data import Trained
from refiner.runs.report_rows import network_head, network_rows, summary_rows

RANDOM = Baseline(
    kind="random", name="random search", vector=(1, 1, 1, 1), macs=3000, params=400,
    search_score=0.5, agreement=-0.5, score=0.375, trained=0.875, validation=0.75,
)  # fmt: skip


def test_rows_of_the_summary(report: Report) -> None:
    rows = summary_rows(report)
    assert [row[0] for row in rows] == [
        "MACs", "parameters", "MACs by thop", "latency in eager, batch 1, predicted",
        "latency in eager, batch 1", "test accuracy before fine-tuning",
        "test accuracy after 3 epochs",
    ]  # fmt: skip
    assert rows[-2] == ("test accuracy before fine-tuning", "0.6250", "0.2500", "-0.3750")
    assert rows[-1] == ("test accuracy after 3 epochs", "0.5000", "0.7500", "+0.2500")


def test_agreement_stands_beside_the_originals(report: Report) -> None:
    distilled = replace(report, top_k=(((1, 0, 0, 2), 0.5, -0.125),))
    row = ("agreement in the search", "0.0000", "-0.1250", "-0.1250")
    assert row in summary_rows(distilled)


def test_one_epoch_and_no_original(report: Report) -> None:
    trained = Trained(epochs=1, original=None, refined=0.75, tests=(("other", 0.25, 0.5),))
    assert summary_rows(replace(report, trained=trained))[-2:] == [
        ("test accuracy after 1 epoch", "", "0.7500", ""),
        ("other", "0.2500", "0.5000", "+0.2500"),
    ]


@pytest.mark.parametrize(
    ("after", "noise", "shown"),
    [
        (1.75, (0.25, 0.125), "within the noise"),
        (1.5, (0.25, 0.125), "-25.0 %"),
        (2.0, (0.0, 0.0), "+0.0 %"),
    ],
)
def test_a_change_within_the_noise_is_no_change(report: Report, after, noise, shown) -> None:
    timed = replace(report, latencies=(measured_latency("eager 2", 2.0, after, noise),))
    [row] = [row for row in summary_rows(timed) if row[0] == "latency in eager, batch 1"]
    assert row[3] == shown


def test_a_row_for_each_runtime(report: Report) -> None:
    pairs = (measured_latency("openvino 2026.4", 2.0, 1.5), measured_latency("eager 2", 3.0, 1.5))
    rows = [row for row in summary_rows(replace(report, latencies=pairs)) if "latency" in row[0]]
    assert [(row[0], row[3]) for row in rows] == [
        ("latency in openvino, batch 1, predicted", "-50.0 %"),
        ("latency in openvino, batch 1", "-25.0 %"),
        ("latency in eager, batch 1", "-50.0 %"),
    ]


def test_a_row_for_each_network_that_was_scored(report: Report) -> None:
    report = replace(report, search_score=0.625, baselines=(RANDOM,))
    before = f"{report.before.macs:,}", f"{report.before.params:,}"
    after = f"{report.after.macs:,}", f"{report.after.params:,}"
    assert network_head(report) == (
        "network", "MACs", "parameters", "accuracy in the search",
        "test accuracy before fine-tuning", "test accuracy after 3 epochs",
    )  # fmt: skip
    assert network_rows(report) == [
        ("original", *before, "", "0.6250", "0.5000"),
        ("refined", *after, "0.6250", "0.2500", "0.7500"),
        ("random search", "3,000", "400", "0.5000", "0.3750", "0.8750"),
    ]


def test_without_fine_tuning_networks_have_their_scores_before_it(report: Report) -> None:
    report = replace(report, trained=None, search_score=0.625, baselines=(RANDOM,))
    assert network_head(report)[4:] == ("test accuracy before fine-tuning",)
    assert [(row[0], *row[3:]) for row in network_rows(report)] == [
        ("original", "", "0.6250"),
        ("refined", "0.6250", "0.2500"),
        ("random search", "0.5000", "0.3750"),
    ]


def test_from_scratch_there_are_scores_after_training_alone(report: Report) -> None:
    report = replace(report, original_score=None, refined_score=None)
    assert network_head(report)[3:] == ("test accuracy after 3 epochs",)
    assert [(row[0], row[-1]) for row in network_rows(report)] == [
        ("original", "0.5000"),
        ("refined", "0.7500"),
    ]
    assert summary_rows(report)[-1][0] == "test accuracy after 3 epochs"
    assert summary_rows(report)[-2][0] == "latency in eager, batch 1"


def test_a_network_without_a_score_has_no_row(report: Report) -> None:
    trained = Trained(epochs=1, original=None, refined=0.75)
    report = replace(report, original_score=None, refined_score=None, trained=trained)
    assert [row[0] for row in network_rows(report)] == ["refined"]


def test_the_figure_of_a_distilled_search_is_agreement(report: Report) -> None:
    distilled = replace(
        report, search_score=0.625, baselines=(RANDOM,), top_k=(((1, 0, 0, 2), 0.625, -0.125),),
    )  # fmt: skip
    assert network_head(distilled)[3] == "agreement in the search"
    assert [row[3] for row in network_rows(distilled)] == ["", "-0.1250", "-0.5000"]
