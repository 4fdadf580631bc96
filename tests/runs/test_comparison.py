import pytest

from refiner.runs.comparison import Baseline, comparison, comparison_over_seeds


def test_one_run_is_no_proof() -> None:
    sentence = comparison("accuracy", 0.72, {"random search": 0.70, "all maxpool3x3": 0.65})
    assert sentence == (
        "In this one run the search came out ahead of its 2 baselines: accuracy 0.7200 is +0.0200 "
        "against random search (0.7000) and +0.0700 against all maxpool3x3 (0.6500). One run "
        "cannot separate a small difference from chance; --seeds 3 can."
    )


@pytest.mark.parametrize(
    ("refined", "word"),
    [
        (0.8, "ahead of its 2 baselines"),
        (0.65, "ahead of 1 of its 2"),
        (0.6, "ahead of none of its 2"),
    ],
)
def test_a_tie_is_not_won(refined: float, word: str) -> None:
    assert word in comparison("accuracy", refined, {"a": 0.7, "b": 0.6})


def test_a_single_baseline() -> None:
    assert "ahead of its baseline:" in comparison("accuracy", 0.8, {"a": 0.7})
    assert "ahead of no baseline:" in comparison("accuracy", 0.6, {"a": 0.7})


def test_over_seeds_differences_are_held_against_their_own_deviation() -> None:
    sentence = comparison_over_seeds(
        "accuracy", [0.72, 0.74, 0.76], {"random search": [0.70, 0.71, 0.72], "uniform": [0.7, 0.8, 0.7]}
    )  # fmt: skip
    # 0.02, 0.03, 0.04: mean 0.03, deviation 0.01. And 0.02, -0.06, 0.06: 0.0067 and 0.0611.
    assert "+0.0300 ± 0.0100 against random search, beyond one deviation" in sentence
    assert "+0.0067 ± 0.0611 against uniform, not beyond one deviation" in sentence
    assert sentence.startswith("Over 3 seeds the search beat 1 of its 2 baselines in accuracy: ")


def test_a_clear_loss_is_no_draw_and_zero_has_no_minus() -> None:
    sentence = comparison_over_seeds(
        "accuracy", [0.60, 0.62], {"a": [0.66, 0.66], "b": [0.60002, 0.62002]}
    )
    assert "-0.0500 ± 0.0141 against a, behind by more than one deviation" in sentence
    assert "+0.0000 ± 0.0000 against b" in sentence
    assert "beat none of its 2 baselines" in sentence


def test_a_baseline_goes_through_json() -> None:
    baseline = Baseline(
        kind="random", name="random search", vector=(0, 1), macs=3, params=4, search_score=0.5
    )
    document = {**{f: getattr(baseline, f) for f in Baseline.__slots__}, "vector": [0, 1]}
    assert Baseline.from_json(document) == baseline
