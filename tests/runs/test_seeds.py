from dataclasses import replace

import pytest

from refiner.core.errors import RunError
from refiner.cost.costs import Cost
from refiner.runs.comparison import Baseline
from refiner.runs.report import Report
from refiner.runs.report_data import Trained
from refiner.runs.seeds import SeedsReport


def cost(macs: int) -> Cost:
    return Cost(macs=macs, params=macs // 2, thop_macs=None, uncounted=(), notes=())


def report(seed: int, refined: float, random: float) -> Report:
    return Report(
        vector=(1,), before=cost(100), after=cost(60 + seed), slots=(), frozen=(), metric="accuracy",
        search_score=0.3, trained=Trained(epochs=2, original=0.7, refined=refined),
        baselines=(Baseline(kind="random", name="random search", vector=(2,), macs=60, params=30,
                          search_score=0.2, trained=random),),
        settings=(("seed", str(seed)), ("strategy", "controller")),
    )  # fmt: skip


RUNS = [report(0, 0.72, 0.70), report(1, 0.74, 0.71), report(2, 0.76, 0.72)]


def test_means_and_deviations_by_hand() -> None:
    over = SeedsReport.of(RUNS)
    assert over.table() == [
        ("original", "100", "50", "0.7000"),
        ("refined", "61 ± 1", "30 ± 1", "0.7400 ± 0.0200"),
        ("random search", "60", "30", "0.7100 ± 0.0100"),
    ]
    assert over.comparison is not None
    assert "+0.0300 ± 0.0100 against random search, beyond" in over.comparison


def test_without_training_the_scores_are_the_supernets() -> None:
    runs = [
        replace(r, trained=None, baselines=tuple(replace(c, trained=None) for c in r.baselines))
        for r in RUNS
    ]
    over = SeedsReport.of(runs)
    assert over.metric == "accuracy in the supernet"
    assert [row.scores for row in over.rows] == [(0.3,) * 3, (0.2,) * 3]


def test_runs_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(RunError, match="two runs"):
        SeedsReport.of(RUNS[:1])
    other = replace(RUNS[1], settings=(("seed", "1"), ("strategy", "random")))
    with pytest.raises(RunError, match="more than their seed"):
        SeedsReport.of([RUNS[0], other])


def test_settings_that_one_report_alone_tells_do_not_part_runs() -> None:
    newer = replace(RUNS[1], settings=(*RUNS[1].settings, ("model", "net.py:build_model")))
    assert SeedsReport.of([RUNS[0], newer]).rows[1].scores == (0.72, 0.74)


def test_the_page() -> None:
    page = SeedsReport.of(RUNS).to_markdown()
    assert page.startswith("# 3 seeds\n")
    assert "| random search | 60 | 30 | 0.7100 ± 0.0100 |" in page
    assert "beyond one deviation" in page
