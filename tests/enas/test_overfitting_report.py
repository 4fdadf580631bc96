import json

import numpy as np
import pytest

from refiner.enas import overfitting_report
from refiner.enas.macro import MacroSpace
from refiner.enas.overfitting_report import (
    best_rewards,
    draw,
    gradients,
    reward_noise,
    skip_rate,
    write_report,
)

SPACE = MacroSpace(nodes=3, operations=("conv3x3", "maxpool3x3"))
"""Positions: three operators, then one skip."""


def tell(vectors, scores, operators=1.0, skips=1.0):
    return {
        "vectors": vectors,
        "scores": scores,
        "gradient_operators": operators,
        "gradient_skips": skips,
    }


LOG = [
    tell([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]], [0.2, 0.4, 0.4, 0.4], 1.0, 1.0),
    tell([[0, 1, 0, 1], [0, 1, 0, 1]], [0.3, 0.3], 1.0, 3.0),
    tell([[0, 0, 0, 0], [0, 0, 0, 1]], [0.6, 0.5], 1.0, 5.0),
]
SEARCHES = {
    "joint": {"vector": [0, 1, 0, 1], "score": 0.6, "log": LOG},
    "alternating": {
        "vector": [1, 0, 0, 0],
        "score": 0.5,
        "log": LOG[:1],
        "phases": [
            {"domain": "operators", "reward": 0.4, "vector": [1, 1, 0, 0]},
            {"domain": "skips", "reward": 0.5, "vector": [1, 1, 0, 1]},
        ],
    },
    "operators": {"vector": [1], "score": 0.4, "log": LOG[:2]},
}


def test_the_best_reward_so_far() -> None:
    assert best_rewards(SEARCHES) == {
        "joint": [0.4, 0.4, 0.6],
        "alternating": [0.4],
        "operators": [0.4, 0.4],
    }


def test_gradients_of_each_domain_step_by_step() -> None:
    assert list(gradients(SEARCHES).values()) == [[1.0, 1.0, 1.0], [1.0, 3.0, 5.0], [1.0, 1.0]]


def test_the_share_of_skips() -> None:
    assert skip_rate(SPACE, LOG) == 4 / 8
    assert skip_rate(SPACE, LOG[:1]) == 1 / 4


def test_noise_is_the_error_over_the_reward(monkeypatch) -> None:
    rewards = [np.array([0.5, 0.0]), np.array([0.25, 0.5]), np.zeros(2), np.array([1.0, 0.5])]
    errors = [np.array([0.1, 0.7]), np.array([0.1, 0.1]), np.ones(2), np.array([0.1, 0.2])]
    monkeypatch.setattr(overfitting_report, "assigned_rewards", lambda *_: rewards)
    monkeypatch.setattr(overfitting_report, "assigned_reward_errors", lambda *_: errors)
    noise = reward_noise(SPACE, LOG)  # of the operators 0.2, 0.4 and 0.2; of the skip 0.1 and 0.4
    assert noise == {"operators": pytest.approx(0.8 / 3), "skips": pytest.approx(0.25)}


def test_the_report_for_people_and_machines(tmp_path) -> None:
    write_report(
        tmp_path,
        SPACE,
        SEARCHES,
        {"searched": {"a": 95.0, "faces": 80.0}, "ResNet-20": {"a": 94.0, "faces": 82.0}},
        {name: {"params": 1000, "macs": 2000} for name in ("searched", "ResNet-20")},
        search_task="a",
        image_size=16,
        notes=("a note",),
    )
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["overfitting"]["gap"] == pytest.approx(1 - -2)
    assert document["skip_rate"] == {"first": 1 / 4, "last": 1 / 2}
    assert document["gradient_variation"]["operators, searched alone"] == 0
    assert document["searches"]["operators"] == {"vector": [1], "score": 0.4}
    page = (tmp_path / "report.md").read_text()
    assert "- a note" in page
    assert "MACs, 16x16" in page
    assert "| searched | 1,000 | 2,000 |" in page
    assert "| 1 | operators | 0.4000 | 2 |" in page
    assert "| 2 | skips | 0.5000 | 1 |" in page


def test_the_figures(tmp_path) -> None:
    (tmp_path / "joint").mkdir()
    (tmp_path / "joint" / "metrics.jsonl").write_text(json.dumps({"updates": LOG}) + "\n")
    draw(tmp_path, SPACE, SEARCHES)
    for name in ("figure1", "best-reward", "assigned-reward"):
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()
