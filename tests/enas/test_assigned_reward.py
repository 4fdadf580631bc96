import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refiner.core.errors import ArchitectureError, DataError, RunError
from refiner.enas.assigned_reward import (
    assigned_reward_errors,
    assigned_rewards,
    read_trials,
    sampling_frequencies,
)

CHOICES = [["a", "b", "c"], ["no skip", "skip"]]
VECTORS = [(0, 1), (2, 1), (0, 0), (2, 1)]
SCORES = [0.2, 0.4, 0.6, 0.8]


def test_by_hand() -> None:
    operator, skip = assigned_rewards(VECTORS, SCORES, CHOICES)
    assert operator == pytest.approx([0.8 / 4, 0, 1.2 / 4])
    assert skip == pytest.approx([0.6 / 4, 1.4 / 4])
    operator, skip = sampling_frequencies(VECTORS, CHOICES)
    assert operator.tolist() == [0.5, 0, 0.5]
    assert skip.tolist() == [0.25, 0.75]


def test_errors_by_hand() -> None:
    operator, _ = assigned_reward_errors(VECTORS, SCORES, CHOICES)
    # Of 0.2, 0, 0.6, 0 around 0.2: sum of squares 0.24.
    assert operator == pytest.approx([math.sqrt(0.24 / 3 / 4), 0, math.sqrt(0.44 / 3 / 4)])
    lone = assigned_reward_errors(VECTORS[:1], SCORES[:1], CHOICES)
    assert all(np.isnan(row).all() for row in lone)


def test_errors_fall_with_the_root_of_the_samples() -> None:
    few = assigned_reward_errors(VECTORS, SCORES, CHOICES)
    many = assigned_reward_errors(VECTORS * 100, SCORES * 100, CHOICES)
    assert many[1] == pytest.approx(few[1] / 10 * math.sqrt(3 / 4 * 400 / 399))


@given(
    st.lists(
        st.tuples(
            st.tuples(st.integers(0, 2), st.integers(0, 1)), st.floats(-10, 10, allow_nan=False)
        ),
        min_size=1,
        max_size=30,
    )
)
def test_the_rewards_of_a_position_add_up_to_the_mean(told: list) -> None:
    vectors, scores = [v for v, _ in told], [s for _, s in told]
    mean = sum(scores) / len(scores)
    for row, share in zip(
        assigned_rewards(vectors, scores, CHOICES), sampling_frequencies(vectors, CHOICES)
    ):
        assert row.sum() == pytest.approx(mean, abs=1e-9)
        assert share.sum() == pytest.approx(1)


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(DataError, match="0 architectures and 0 scores"):
        assigned_rewards([], [], CHOICES)
    with pytest.raises(DataError, match="4 architectures and 1 scores"):
        assigned_reward_errors(VECTORS, [1.0], CHOICES)
    with pytest.raises(DataError, match="0 architectures"):
        sampling_frequencies([], CHOICES)
    for vector in ((0,), (0, 1, 0), (3, 0), (0, -1)):
        with pytest.raises(ArchitectureError, match="does not fit the 2 positions"):
            assigned_rewards([vector], [1.0], CHOICES)


def test_trials_are_read_in_order(tmp_path: Path) -> None:
    records = [
        {"epoch": 1, "phase": "warm-up", "loss": 1.0},
        {
            "epoch": 2,
            "phase": "search",
            "loss": 0.5,
            "updates": [
                {"vectors": [[0, 1], [2, 1]], "scores": [0.2, 0.4], "entropy": 1.0},
                {"vectors": [[0, 0]], "scores": [0.6]},
            ],
        },
        {"epoch": 3, "phase": "search", "updates": [{"vectors": [[2, 1]], "scores": [0.8]}]},
    ]
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read_trials(file) == (VECTORS, SCORES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no file"),
        ("{", "is damaged"),
        ("[]\n", "is damaged"),
        ('{"updates": [{"scores": [1]}]}\n', "is damaged"),
        ('{"epoch": 1}\n', "has 0 architectures and 0 scores"),
    ],
)
def test_files_that_hold_no_trials(text: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RunError, match=message) as error:
        read_trials(file)
    assert "\n" not in str(error.value)
