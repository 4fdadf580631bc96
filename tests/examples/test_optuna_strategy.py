import importlib.util
from pathlib import Path

import pytest
import torch
from models import TinyResNet, batches, images, play

import refiner
from refiner.cost.feasible import FeasibleSet

pytest.importorskip("optuna")
FILE = Path(__file__).resolve().parents[2] / "examples" / "optuna_strategy.py"
CHOICES = [["original", "a", "b"], ["original", "b"], ["original", "a", "b", "c"]]


@pytest.fixture(scope="module")
def strategy():
    spec = importlib.util.spec_from_file_location("optuna_strategy", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.OptunaStrategy


def value(vector: tuple[int, ...]) -> float:
    return 0.5 + 0.1 * vector[0] - 0.05 * vector[2]


def test_the_seed_decides(strategy) -> None:
    logs = [play(strategy(CHOICES, None, seed), 4, value) for seed in (0, 0, 1)]
    assert logs[0] == logs[1] != logs[2]


def test_a_saved_state_goes_on_to_the_same_proposals(strategy, tmp_path) -> None:
    first = strategy(CHOICES, None, 0)
    play(first, 3, value)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    expected = play(first, 3, value), first.recommend(4), first.metrics()
    other = strategy(CHOICES, None, 99)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (play(other, 3, value), other.recommend(4), other.metrics()) == expected


def test_proposals_keep_to_the_budget(strategy) -> None:
    costs = [[[3], [1], [2]], [[3], [1]], [[4], [3], [2], [1]]]
    feasible = FeasibleSet(costs, [0], [6], least_used=0.0)
    assert all(feasible.holds(vector) for vector in strategy(CHOICES, feasible, 0).ask(30))


def test_it_refines_a_model(strategy) -> None:
    result = refiner.refine(
        TinyResNet(), batches(2), batches(1), strategy=strategy, budget="macs=80%", device="cpu",
        search=refiner.SearchConfig(trials=4, samples=2, epochs=2, warmup_epochs=0, top_k=2),
        baselines=False, progress=False,
    )  # fmt: skip
    assert result.report.after.macs <= 0.8 * refiner.measure_cost(TinyResNet(), images()).macs
    assert dict(result.report.settings)["strategy"] == "OptunaStrategy"
