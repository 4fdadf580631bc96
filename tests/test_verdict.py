import pytest

from refiner.verdict import Control, verdict, verdict_over_seeds


def test_one_run_is_told_as_what_it_is() -> None:
    told = verdict("accuracy", 0.72, {"random search": 0.70, "all maxpool3x3": 0.65})
    assert told.startswith(
        "The search beat its controls: accuracy 0.7200 is +0.0200 against random"
    )
    assert "+0.0700 against all maxpool3x3 (0.6500)" in told
    assert "--seeds" in told


@pytest.mark.parametrize(
    ("refined", "word"),
    [(0.8, "beat its controls"), (0.65, "beat some of its"), (0.6, "beat none of its")],
)
def test_a_tie_is_not_won(refined: float, word: str) -> None:
    assert word in verdict("accuracy", refined, {"a": 0.7, "b": 0.6})


def test_over_seeds_differences_are_held_against_their_own_deviation() -> None:
    told = verdict_over_seeds(
        "accuracy", [0.72, 0.74, 0.76], {"random search": [0.70, 0.71, 0.72], "uniform": [0.7, 0.8, 0.7]}
    )  # fmt: skip
    # 0.02, 0.03, 0.04: mean 0.03, deviation 0.01. And 0.02, -0.06, 0.06: 0.0067 and 0.0611.
    assert "+0.0300 ± 0.0100 against random search, beyond one deviation" in told
    assert "+0.0067 ± 0.0611 against uniform, not beyond one deviation" in told
    assert told.startswith("Over 3 seeds the search beat some of its controls in accuracy")


def test_a_control_goes_through_json() -> None:
    control = Control(
        kind="random", name="random search", vector=(0, 1), macs=3, params=4, search_score=0.5
    )
    document = {**{f: getattr(control, f) for f in Control.__slots__}, "vector": [0, 1]}
    assert Control.from_json(document) == control
