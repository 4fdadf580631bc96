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
        ("original after 2 epochs", "100", "50", "0.7000"),
        ("refined after 2 epochs", "61 ± 1", "30 ± 1", "0.7400 ± 0.0200"),
        ("random search", "60", "30", "0.7100 ± 0.0100"),
    ]
    assert over.comparison is not None
    assert "+0.0300 ± 0.0100 against random search, beyond" in over.comparison


def test_without_any_score_the_runs_are_compared_by_what_the_search_goes_by() -> None:
    runs = [
        replace(r, trained=None, baselines=tuple(replace(c, trained=None) for c in r.baselines))
        for r in RUNS
    ]
    over = SeedsReport.of(runs)
    assert over.metric == "accuracy in the search"
    assert [row.scores for row in over.rows] == [(0.3,) * 3, (0.2,) * 3]


def test_scores_before_fine_tuning_have_rows_of_their_own() -> None:
    runs = [replace(r, scored_on="test", original_score=0.75, refined_score=0.5) for r in RUNS]
    over = SeedsReport.of(runs)
    assert over.metric == "test accuracy"
    assert [(row.name, row.scores[0]) for row in over.rows] == [
        ("original as given", 0.75),
        ("original after 2 epochs", 0.7),
        ("refined before fine-tuning", 0.5),
        ("refined after 2 epochs", 0.72),
        ("random search", 0.7),
    ]
    assert "All scores are of the test images" in over.to_markdown()
    untrained = [
        replace(r, trained=None, baselines=(replace(r.baselines[0], trained=None, score=0.25),))
        for r in runs
    ]
    over = SeedsReport.of(untrained)
    assert [row.scores[0] for row in over.rows] == [0.75, 0.5, 0.25]
    assert "+0.2500 ± 0.0000 against random search" in (over.comparison or "")


def test_runs_scored_on_other_images_are_refused() -> None:
    with pytest.raises(RunError, match="more than their seed"):
        SeedsReport.of([RUNS[0], replace(RUNS[1], scored_on="test")])


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


def test_a_scale_of_the_training_images_follows_the_split_and_another_does_not() -> None:
    def scaled(*scales: str) -> list[Report]:
        return [
            replace(run, settings=(*run.settings, ("preprocessing", f"mean {scale}")))
            for run, scale in zip(RUNS, scales)
        ]

    SeedsReport.of(scaled("0.30; from the training images", "0.31; from the training images"))
    with pytest.raises(RunError, match="more than their seed"):
        SeedsReport.of(scaled("0.5; from --norm half", "0.31; from the training images"))
