from dataclasses import replace

import pytest

from refiner.runs.comparison import Baseline
from refiner.runs.report import Report
from refiner.runs.report_data import Trained
from refiner.runs.report_rows import (
    baseline_ahead,
    baseline_comparison,
    baseline_rows,
    summary_rows,
)

RANDOM = Baseline(
    kind="random", name="random search", vector=(1, 1, 1, 1), macs=3000, params=400,
    search_score=0.5, trained=0.875,
)  # fmt: skip


def test_rows_of_the_summary(report: Report) -> None:
    rows = summary_rows(report)
    assert [row[0] for row in rows] == [
        "MACs", "parameters", "MACs by thop", "latency, batch 1, predicted",
        "latency, batch 1, measured", "accuracy after 3 epochs",
    ]  # fmt: skip
    assert rows[-1] == ("accuracy after 3 epochs", "0.5000", "0.7500", "+0.2500")


def test_agreement_has_its_unit_and_the_originals(report: Report) -> None:
    distilled = replace(report, top_k=(((1, 0, 0, 2), 0.5, -0.125),))
    row = ("agreement in the supernet (nats)", "0.0000", "-0.1250", "-0.1250")
    assert row in summary_rows(distilled)


def test_one_epoch_and_no_original(report: Report) -> None:
    trained = Trained(epochs=1, original=None, refined=0.75, tests=(("other", 0.25, 0.5),))
    assert summary_rows(replace(report, trained=trained))[-2:] == [
        ("accuracy after 1 epoch", "", "0.7500", ""),
        ("other", "0.2500", "0.5000", "+0.2500"),
    ]


@pytest.mark.parametrize(
    ("after", "noise", "shown"),
    [
        (1.75, (0.25, 0.125), "within the noise"),
        (1.5, (0.25, 0.125), "-25.0 %"),
        (2.0, (0.0, 0.0), "+0.0 %"),
        (1.5, None, "-25.0 %"),
    ],
)
def test_a_change_within_the_noise_is_no_change(report: Report, after, noise, shown) -> None:
    timed = replace(report, latency_after=after, latency_noise=noise)
    [row] = [row for row in summary_rows(timed) if "measured" in row[0]]
    assert row[3] == shown


def test_baselines(report: Report) -> None:
    assert baseline_comparison(report) is None
    assert baseline_ahead(report) is None
    report = replace(report, search_score=0.625, baselines=(RANDOM,))
    assert baseline_rows(report)[1] == ("random search", "3,000", "400", "0.5000", "0.8750")
    assert "accuracy 0.7500 is -0.1250 against random search" in (baseline_comparison(report) or "")
    assert baseline_ahead(report) == (
        "To take random search instead: refine apply DIR 1,1,1,1 (DIR is this run's folder)."
    )
    searched = replace(report, trained=None)
    assert "accuracy in the supernet 0.6250" in (baseline_comparison(searched) or "")
    assert baseline_ahead(searched) is None
