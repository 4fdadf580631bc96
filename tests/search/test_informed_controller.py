import numpy as np
import pytest
import torch
from models import play

from refiner.cost.feasible import FeasibleSet
from refiner.search.effects import Effects
from refiner.search.effects_check import CHECKS
from refiner.search.informed_controller import InformedController
from refiner.search.policy_gradient import ControllerStrategy
from refiner.search.random_search import RandomStrategy
from refiner.search.strategy import Checked

SLOTS, SIZE = 8, 4
CHOICES = [[f"op{i}" for i in range(SIZE)]] * SLOTS


def effects() -> Effects:
    draw = np.random.default_rng(0)
    products = draw.standard_normal((50, SLOTS, SIZE)) * np.arange(SIZE)
    products = (products * draw.uniform(0.2, 2, (SLOTS, 1))).reshape(50, -1)
    return Effects(sizes=(SIZE,) * SLOTS, gram_JJ=products.T @ products / 50, added_J=np.zeros(32))


def feasible() -> FeasibleSet:
    return FeasibleSet([[[10], [8], [5], [2]]] * SLOTS, [3], [50])


def score(vector) -> float:
    return -effects().loss(vector)


def informed(seed: int = 0) -> InformedController:
    strategy = InformedController(CHOICES, seed=seed, feasible=feasible())
    strategy.inform(effects())
    return strategy


@pytest.fixture(scope="module")
def learned() -> dict:
    """Return the state right after the check."""
    strategy = informed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("refiner.search.informed_controller.STEPS", 150)
        play(strategy, 1, score, CHECKS)
    return strategy.state_dict()


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr("refiner.search.informed_controller.STEPS", 8)


def after_the_check(learned: dict) -> InformedController:
    strategy = InformedController(CHOICES, seed=5, feasible=feasible())
    strategy.load_state_dict(learned)
    return strategy


def test_without_effects_it_is_the_plain_controller() -> None:
    strategies = [kind(CHOICES, seed=1) for kind in (InformedController, ControllerStrategy)]
    logs = [play(strategy, 5, score) for strategy in strategies]
    assert logs[0] == logs[1]
    assert strategies[0].recommend(4) == strategies[1].recommend(4)


@pytest.mark.usefixtures("quick")
def test_single_swaps_are_checked_first_and_the_rest_is_within_the_budget() -> None:
    strategy = informed()
    assert all(map(feasible().holds, strategy.recommend(8)))
    first = play(strategy, 2, score, 3)
    assert [sum(map(bool, v)) for update in first for v in update] == [1] * 6
    (last,) = play(strategy, 1, score, 3)
    assert [sum(map(bool, v)) == 1 for v in last] == [True, True, False]
    assert len({v for update in first for v in update} | set(last)) == CHECKS + 1
    assert all(map(feasible().holds, strategy.ask(50)))
    assert all(map(feasible().holds, strategy.recommend(8)))


def test_the_policy_prefers_what_the_effects_expect_to_be_good(learned: dict) -> None:
    drawn = after_the_check(learned).ask(100)
    uniform = RandomStrategy(CHOICES, feasible=feasible()).ask(1000)
    losses, others = ([effects().loss(v) for v in each] for each in (drawn, uniform))
    assert np.median(losses) < np.quantile(others, 0.02)
    assert len(set(drawn)) > 10


def test_estimates_leave_no_score_and_no_baseline(learned: dict) -> None:
    strategy = after_the_check(learned)
    assert not strategy.scores
    assert strategy.metrics() == {}
    drawn = strategy.ask(4)
    strategy.tell(drawn, [0.5] * 4)
    assert strategy.metrics()["baseline"] == 0.5
    assert set(strategy.scores) == set(drawn)


def test_a_policy_that_has_learned_effects_goes_on_by_scores(learned: dict) -> None:
    strategy = after_the_check(learned)

    def other(vector) -> float:  # the estimates know nothing of it
        return float(sum(index == 3 for index in vector[:3]))

    before = np.mean([other(v) for v in strategy.ask(200)])
    play(strategy, 60, other)
    assert np.mean([other(v) for v in strategy.ask(200)]) > before + 0.5


def test_effects_that_scores_contradict_leave_the_plain_controller() -> None:
    strategy, plain = informed(), ControllerStrategy(CHOICES, seed=0, feasible=feasible())
    assert isinstance(strategy, Checked)
    play(strategy, 1, lambda v: -score(v), CHECKS)
    assert strategy.refused == -1
    assert play(strategy, 4, score) == play(plain, 4, score)
    assert strategy.recommend(5) == plain.recommend(5)


def test_a_swap_that_the_policy_draws_after_the_check_is_a_sample(learned: dict) -> None:
    strategy = after_the_check(learned)
    swap = next(iter(strategy.checked))
    strategy.tell([swap, (3,) * SLOTS], [0.0, 1.0])
    assert swap in strategy.scores
    assert strategy.checked.count(swap) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("updates", [0, 1, 2, 4])
def test_it_resumes_to_the_bit(updates: int, tmp_path) -> None:
    strategy, other = informed(), InformedController(CHOICES, seed=9, feasible=feasible())
    play(strategy, updates, score, 5)
    torch.save(strategy.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert play(other, 4, score, 5) == play(strategy, 4, score, 5)
    assert other.recommend(6) == strategy.recommend(6)
    assert other.metrics() == strategy.metrics() != {}


@pytest.mark.usefixtures("quick")
def test_global_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    play(informed(), 2, score, CHECKS)
    assert torch.equal(state, torch.get_rng_state())
