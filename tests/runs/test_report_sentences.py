from dataclasses import replace

import pytest

from refiner.runs.comparison import Baseline
from refiner.runs.report import Report
from refiner.runs.report_sentences import (
    agreement_sentences,
    baseline_ahead,
    baseline_comparison,
    images_sentence,
    measure_sentence,
    score_sentences,
)

RANDOM = Baseline(
    kind="random", name="random search", vector=(1, 1, 1, 1), macs=3000, params=400,
    search_score=0.5, agreement=-0.5, score=0.375, trained=0.875, validation=0.75,
)  # fmt: skip
UNIFORM = replace(
    RANDOM, kind="uniform", name="all identity", vector=(2, 2, 2, 2), agreement=-0.0625,
    trained=0.5, validation=0.9375,
)  # fmt: skip


@pytest.fixture
def searched(report: Report) -> Report:
    return replace(report, search_score=0.625, baselines=(RANDOM,))


def test_scores_of_test_images_are_said_to_be_so(report: Report, searched: Report) -> None:
    assert images_sentence(searched) == (
        "All scores are of the test images, on which nothing was chosen; the search chose on the "
        "validation images."
    )
    assert images_sentence(report) == (
        "All scores are of the test images, on which nothing was chosen."
    )


def test_scores_of_validation_images_are_said_to_be_optimistic(searched: Report) -> None:
    flattered = replace(searched, scored_on="validation")
    assert images_sentence(flattered) == (
        "All scores are of the validation images, on which choices were made, so they are "
        "optimistic: there is no test part. Add one with --test-data, or test_loader= in Python."
    )
    trained = images_sentence(replace(flattered, search_score=None)) or ""
    assert "so they are optimistic if the architecture or the settings were chosen" in trained
    assert score_sentences(flattered)[0] == images_sentence(flattered)


def test_a_rewrite_alone_has_no_scores(report: Report) -> None:
    plain = replace(report, trained=None, original_score=None, refined_score=None)
    assert images_sentence(plain) is None
    assert score_sentences(plain) == []


def test_the_figure_of_the_search_is_named(report: Report, searched: Report) -> None:
    assert measure_sentence(report) is None
    assert "--pick go by accuracy on the validation images." in (measure_sentence(searched) or "")
    assert agreement_sentences(searched) is None
    distilled = replace(searched, top_k=(((1, 0, 0, 2), 0.5, -0.125),))
    assert "go by agreement with the original on the" in (measure_sentence(distilled) or "")
    assert score_sentences(distilled)[-1] == agreement_sentences(distilled)


def test_agreement_is_in_nats_only_where_outputs_are_logits(searched: Report) -> None:
    distilled = replace(searched, top_k=(((1, 0, 0, 2), 0.5, -0.125),))
    said = {
        compared: agreement_sentences(replace(distilled, compared=compared)) or ""
        for compared in (None, "logits", "own", "error")
    }
    assert "at temperature 4, times 16, in nats." in said["logits"]
    assert [each for each, text in said.items() if "nats" in text] == ["logits"]
    assert said["error"].endswith(
        "the negative squared error over the variance of the original's output."
    )
    assert all(text.startswith(said[None]) for text in said.values())


def test_baselines_are_compared_on_the_images_of_the_report(searched: Report) -> None:
    assert baseline_comparison(replace(searched, baselines=())) is None
    assert "test accuracy 0.7500 is -0.1250 against random search" in (
        baseline_comparison(searched) or ""
    )
    before = replace(searched, trained=None)
    assert "test accuracy before fine-tuning 0.2500 is -0.1250 against" in (
        baseline_comparison(before) or ""
    )
    untrained = replace(before, refined_score=None)
    assert "accuracy in the search 0.6250 is +0.1250 against" in (
        baseline_comparison(untrained) or ""
    )


def test_a_baseline_is_recommended_by_the_validation_images(searched: Report) -> None:
    assert baseline_ahead(replace(searched, baselines=())) is None
    # Random search is ahead on the test images alone, on which nothing is chosen.
    assert baseline_ahead(searched) is None
    assert baseline_ahead(replace(searched, baselines=(RANDOM, UNIFORM))) == (
        "All identity is ahead in validation accuracy, 0.9375 against 0.8750. To take it instead: "
        "refine apply DIR 2,2,2,2 (DIR is this run's folder)."
    )


def test_without_a_test_part_the_scores_are_those_of_validation(searched: Report) -> None:
    old = replace(
        searched, scored_on="validation", trained=replace(searched.trained, validation=None),
        baselines=(replace(RANDOM, validation=None),),
    )  # fmt: skip
    assert "Random search is ahead in validation accuracy, 0.8750 against 0.7500." in (
        baseline_ahead(old) or ""
    )


def test_without_training_a_baseline_is_recommended_by_what_the_search_goes_by(
    searched: Report,
) -> None:
    report = replace(
        searched, trained=None, baselines=(RANDOM, UNIFORM), top_k=(((1, 0, 0, 2), 0.5, -0.125),)
    )  # fmt: skip
    assert "All identity is ahead in agreement in the search, -0.0625 against -0.1250." in (
        baseline_ahead(report) or ""
    )
    assert baseline_ahead(replace(report, baselines=(RANDOM,))) is None
