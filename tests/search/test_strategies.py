"""The contract that every strategy keeps, and what each does beyond it."""

import pytest
import torch
from models import MACRO_SPACE, play

from refiner.core.errors import ConfigError
from refiner.cost.feasible import FeasibleSet
from refiner.enas.alternating import AlternatingStrategy
from refiner.enas.joint import JointConfig, JointStrategy
from refiner.search.policy_gradient import ControllerConfig, ControllerStrategy
from refiner.search.random_search import RandomStrategy
from refiner.search.strategies import (
    CONTROLLERS,
    INFORMED,
    STRATEGIES,
    make_strategy,
    resolve_strategy,
    strategy_name,
)
from refiner.search.strategy import Checked, Informed

CHOICES = [
    ["original", "a", "b"],
    ["original", "b"],
    ["original", "a", "b", "c"],
    ["original", "a"],
]
every_strategy = pytest.mark.parametrize("name", list(STRATEGIES))


def value(vector: tuple[int, ...]) -> float:
    return 0.5 + 0.1 * vector[0] - 0.05 * vector[2]


@every_strategy
def test_asked_vectors_are_valid(name: str) -> None:
    for vector in make_strategy(name, CHOICES, 0).ask(50):
        assert len(vector) == len(CHOICES)
        assert all(0 <= i < len(names) for i, names in zip(vector, CHOICES, strict=True))
        assert all(type(i) is int for i in vector)


@every_strategy
def test_the_seed_decides(name: str) -> None:
    logs = [play(make_strategy(name, CHOICES, seed), 4, value) for seed in (0, 0, 1)]
    assert logs[0] == logs[1] != logs[2]


@every_strategy
def test_global_random_state_is_left_alone(name: str) -> None:
    state = torch.get_rng_state()
    strategy = make_strategy(name, CHOICES, 0)
    play(strategy, 2, value)
    strategy.recommend(3)
    assert torch.equal(state, torch.get_rng_state())


@every_strategy
def test_a_saved_state_goes_on_to_the_bit(name: str, tmp_path) -> None:
    strategy = make_strategy(name, CHOICES, 0)
    play(strategy, 3, value)
    torch.save(strategy.state_dict(), tmp_path / "state.pt")
    expected = play(strategy, 3, value), strategy.recommend(4), strategy.metrics()
    other = make_strategy(name, CHOICES, 99)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (play(other, 3, value), other.recommend(4), other.metrics()) == expected


@every_strategy
def test_a_state_of_several_generations_goes_on_to_the_bit(name: str, tmp_path) -> None:
    strategy = make_strategy(name, CHOICES * 2, 0)

    def score(vector) -> float:
        return value(vector) + value(vector[4:])

    play(strategy, 8, score)
    strategy.ask(3)  # and are never told of
    torch.save(strategy.state_dict(), tmp_path / "state.pt")
    other = make_strategy(name, CHOICES * 2, 99)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert play(other, 4, score) == play(strategy, 4, score)


@every_strategy
def test_recommended_vectors_differ_and_the_best_comes_first(name: str) -> None:
    strategy = make_strategy(name, CHOICES, 0)
    play(strategy, 60, value)
    recommended = strategy.recommend(5)
    assert 1 <= len(recommended) <= 5
    assert len(set(recommended)) == len(recommended)
    assert value(recommended[0]) == pytest.approx(0.7)


@every_strategy
def test_something_is_recommended_before_anything_was_told(name: str) -> None:
    assert make_strategy(name, CHOICES, 0).recommend(3)


def test_unknown_strategy() -> None:
    with pytest.raises(ConfigError, match="auto, controller, informed_controller, milp, random"):
        make_strategy("bayes", CHOICES, 0)


def test_the_controller_sharpens_its_policy() -> None:
    strategy = ControllerStrategy(CHOICES, seed=0)
    play(strategy, 2, value)
    first = strategy.metrics()["entropy"]
    play(strategy, 80, value)
    assert strategy.metrics()["entropy"] < 0.8 * first
    drawn = strategy.ask(100)
    assert sum(v[0] == 2 for v in drawn) > 70


def test_the_scale_of_rewards_does_not_matter() -> None:
    logs = []
    for scale in (1.0, 1000.0):
        strategy = ControllerStrategy(CHOICES, seed=0, config=ControllerConfig())
        log = []
        for _ in range(20):
            vectors = strategy.ask(6)
            strategy.tell(vectors, [scale * value(v) for v in vectors])
            log.append(vectors)
        logs.append(log)
    same = [a == b for a, b in zip(*logs, strict=True)]
    assert sum(same) >= 18  # float32 rounding may tip a rare draw


def test_random_is_uniform_and_averages_repeated_scores() -> None:
    strategy = RandomStrategy([["original", "a"]], seed=0)
    share = sum(v[0] for v in strategy.ask(2000)) / 2000
    assert share == pytest.approx(0.5, abs=0.05)
    strategy.tell([(0,), (1,), (0,)], [1.0, 0.6, 0.0])
    assert strategy.recommend(2) == [(1,), (0,)]


def test_the_optimizer_of_every_controller_is_as_configured() -> None:
    config = JointConfig(learning_rate=0.003, beta1=0.0, epsilon=1e-3)
    alternating = AlternatingStrategy(CHOICES, (0, 1), (2, 3), config=config)
    strategies = [
        ControllerStrategy(CHOICES, config=config),
        JointStrategy(MACRO_SPACE, config=config),
        *alternating.strategies.values(),
    ]
    for strategy in strategies:
        (group,) = strategy.optimizer.param_groups
        assert (group["lr"], group["betas"], group["eps"]) == (0.003, (0.0, 0.999), 1e-3)


def test_the_controller_recommends_what_scored_best_beside_what_it_finds_likely() -> None:
    strategy = make_strategy("controller", CHOICES, 0)
    best = (2, 1, 3, 1)
    strategy.tell([(0, 0, 0, 0), best, (1, 0, 0, 1)], [0.4, 0.9, 0.5])
    recommended = strategy.recommend(4)
    assert isinstance(strategy, ControllerStrategy)
    greedy = tuple(strategy.controller.greedy().tolist())
    assert recommended[0] == greedy
    assert best in recommended[:2]
    assert (1, 0, 0, 1) in recommended


@pytest.mark.parametrize(
    ("trained", "budget", "expected"),
    [(True, True, "milp"), (True, False, "controller"), (False, True, "controller")],
)
def test_auto_is_resolved(trained: bool, budget: bool, expected: str) -> None:
    assert resolve_strategy("auto", trained=trained, budget=budget) == expected
    assert resolve_strategy("random", trained=trained, budget=budget) == "random"


def test_a_strategy_of_the_users_own() -> None:
    own = RandomStrategy(CHOICES)
    assert make_strategy(own, CHOICES, 0) is own
    made = make_strategy(
        lambda choices, feasible, seed: RandomStrategy(choices, seed=seed, feasible=feasible),
        CHOICES,
        3,
    )
    assert made.ask(5) == RandomStrategy(CHOICES, seed=3).ask(5)
    assert strategy_name(own) == "RandomStrategy"
    assert strategy_name("milp") == "milp"


@pytest.mark.parametrize("strategy", [3, lambda choices, feasible, seed: object()])
def test_a_missing_method_is_named(strategy: object) -> None:
    with pytest.raises(ConfigError, match="has no method ask"):
        make_strategy(strategy, CHOICES, 0)  # type: ignore[arg-type]


def test_among_equal_rewards_a_policy_becomes_more_even() -> None:
    strategy = ControllerStrategy(CHOICES, seed=0)
    with torch.no_grad():
        strategy.controller.slot_bias[:, 0] = 4.0  # the original is far likelier
    entropy = []
    for _ in range(10):
        vectors = strategy.ask(6)
        strategy.tell(vectors, [0.5] * 6)
        entropy.append(strategy.metrics()["entropy"])
    assert entropy[-1] > entropy[0] + 0.05


@every_strategy
def test_within_a_budget_too_the_seed_alone_decides(name: str) -> None:
    costs = [[[9], [4], [1]], [[9], [4]], [[9], [4], [1], [2]], [[9], [4]]]
    feasible = FeasibleSet(costs, [0], [24], least_used=0.0)
    state = torch.get_rng_state()
    logs = [play(make_strategy(name, CHOICES, seed, feasible), 4, value) for seed in (0, 0, 1)]
    assert logs[0] == logs[1] != logs[2]
    assert torch.equal(state, torch.get_rng_state())


@every_strategy
def test_the_metrics_come_back_with_the_state(name: str) -> None:
    strategy, other = make_strategy(name, CHOICES, 0), make_strategy(name, CHOICES, 1)
    play(strategy, 12, value)
    other.load_state_dict(strategy.state_dict())
    assert other.metrics() == strategy.metrics() != {}
    assert other.recommend(30) == strategy.recommend(30)


def test_the_controller_is_as_configured() -> None:
    config = ControllerConfig(hidden_size=8, temperature=3.0, tanh_constant=1.5)
    controller = ControllerStrategy(CHOICES, config=config).controller
    assert controller.lstm.hidden_size == 8
    assert (controller.temperature, controller.tanh_constant) == (3.0, 1.5)


def test_the_moving_averages_by_hand() -> None:
    config = ControllerConfig(decay=0.75)
    strategy, vector = ControllerStrategy(CHOICES, config=config), (0, 0, 0, 0)
    strategy.tell([vector, vector], [0.5, 1.5])
    assert strategy.metrics()["baseline"] == 1.0
    assert strategy.state_dict()["square"] == 0.25
    strategy.tell([vector], [3.0])
    assert strategy.metrics()["baseline"] == 0.75 * 1.0 + 0.25 * 3.0
    assert strategy.state_dict()["square"] == 0.75 * 0.25 + 0.25 * 4.0
    assert set(strategy.metrics()) == {"entropy", "baseline", "gradient_operators"}


def test_random_tells_its_best_score_and_functions_have_names() -> None:
    strategy = RandomStrategy(CHOICES)
    strategy.tell([(0, 0, 0, 0), (1, 0, 0, 0)], [0.25, 0.75])
    assert strategy.metrics() == {"best": 0.75}
    assert strategy_name(RandomStrategy) == "RandomStrategy"
    assert strategy_name(make_strategy) == "make_strategy"


@every_strategy
def test_the_informed_ones_are_those_that_can_be(name: str) -> None:
    strategy = make_strategy(name, CHOICES, 0)
    assert isinstance(strategy, Informed) == isinstance(strategy, Checked) == (name in INFORMED)


@pytest.mark.parametrize("name", list(CONTROLLERS))
def test_every_controller_is_made_as_configured(name: str) -> None:
    made = make_strategy(name, CHOICES, 0, controller=ControllerConfig(entropy_weight=0.07))
    assert type(made) is CONTROLLERS[name]
    assert made.config.entropy_weight == 0.07
    assert type(STRATEGIES[name](CHOICES, None, 0)) is CONTROLLERS[name]


@every_strategy
def test_as_many_are_recommended_as_asked_for(name: str) -> None:
    assert len(make_strategy(name, CHOICES, 0).recommend(5)) == 5
