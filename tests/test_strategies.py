"""The contract that every strategy keeps, and what each does beyond it."""

import pytest
import torch

from refiner.errors import ConfigError
from refiner.macro import MacroSpace
from refiner.strategies import STRATEGIES, make_strategy
from refiner.strategy_alternating import AlternatingStrategy
from refiner.strategy_controller import ControllerConfig, ControllerStrategy
from refiner.strategy_joint import JointStrategy
from refiner.strategy_random import RandomStrategy

CHOICES = [
    ["original", "a", "b"],
    ["original", "b"],
    ["original", "a", "b", "c"],
    ["original", "a"],
]
every_strategy = pytest.mark.parametrize("name", list(STRATEGIES))


def value(vector: tuple[int, ...]) -> float:
    return 0.5 + 0.1 * vector[0] - 0.05 * vector[2]


def play(strategy, rounds: int, count: int = 6) -> list:
    log = []
    for _ in range(rounds):
        vectors = strategy.ask(count)
        strategy.tell(vectors, [value(v) for v in vectors])
        log.append(vectors)
    return log


@every_strategy
def test_asked_vectors_are_valid(name: str) -> None:
    for vector in make_strategy(name, CHOICES, 0).ask(50):
        assert len(vector) == len(CHOICES)
        assert all(0 <= i < len(names) for i, names in zip(vector, CHOICES, strict=True))
        assert all(type(i) is int for i in vector)


@every_strategy
def test_the_seed_decides(name: str) -> None:
    logs = [play(make_strategy(name, CHOICES, seed), 4) for seed in (0, 0, 1)]
    assert logs[0] == logs[1] != logs[2]


@every_strategy
def test_global_random_state_is_left_alone(name: str) -> None:
    state = torch.get_rng_state()
    strategy = make_strategy(name, CHOICES, 0)
    play(strategy, 2)
    strategy.recommend(3)
    assert torch.equal(state, torch.get_rng_state())


@every_strategy
def test_a_saved_state_goes_on_to_the_bit(name: str, tmp_path) -> None:
    strategy = make_strategy(name, CHOICES, 0)
    play(strategy, 3)
    torch.save(strategy.state_dict(), tmp_path / "state.pt")
    expected = play(strategy, 3), strategy.recommend(4), strategy.metrics()
    other = make_strategy(name, CHOICES, 99)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (play(other, 3), other.recommend(4), other.metrics()) == expected


@every_strategy
def test_recommended_vectors_differ_and_the_best_comes_first(name: str) -> None:
    strategy = make_strategy(name, CHOICES, 0)
    play(strategy, 60)
    recommended = strategy.recommend(5)
    assert 1 <= len(recommended) <= 5
    assert len(set(recommended)) == len(recommended)
    assert value(recommended[0]) == pytest.approx(0.7)


@every_strategy
def test_something_is_recommended_before_anything_was_told(name: str) -> None:
    assert make_strategy(name, CHOICES, 0).recommend(3)


def test_unknown_strategy() -> None:
    with pytest.raises(ConfigError, match="controller, random"):
        make_strategy("bayes", CHOICES, 0)


def test_the_controller_sharpens_its_policy() -> None:
    strategy = ControllerStrategy(CHOICES, seed=0)
    play(strategy, 2)
    first = strategy.metrics()["entropy"]
    play(strategy, 80)
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


SPACE = MacroSpace(nodes=4, operations=("conv3x3", "maxpool3x3"))


def planted(vector: tuple[int, ...]) -> float:
    """Score of a macro vector: the share of its places that agree with a planted one."""
    return sum(a == b for a, b in zip(vector, (1, 0, 1, 1, 0, 0, 1))) / 7


def macro_strategy(name: str, seed: int = 0):
    if name == "joint":
        return JointStrategy(SPACE, seed=seed)
    return AlternatingStrategy(SPACE.choices, SPACE.operators, SPACE.skips, seed=seed, period=3)


def play_macro(strategy, rounds: int) -> list:
    log = []
    for _ in range(rounds):
        vectors = strategy.ask(6)
        strategy.tell(vectors, [planted(v) for v in vectors])
        log.append(vectors)
    return log


@pytest.mark.parametrize("name", ["joint", "alternating"])
def test_strategies_of_section_3_repeat_resume_and_learn(name: str, tmp_path) -> None:
    logs = [play_macro(macro_strategy(name, seed), 5) for seed in (0, 0, 1)]
    assert logs[0] == logs[1] != logs[2]
    strategy, again = macro_strategy(name), macro_strategy(name)
    play_macro(strategy, 4)
    torch.save(strategy.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.metrics() == strategy.metrics()
    assert play_macro(again, 4) == play_macro(strategy, 4)
    play_macro(strategy, 150)
    recommended = strategy.recommend(4)
    assert 0 < len(set(recommended)) == len(recommended) <= 4
    assert max(planted(v) for v in recommended) >= 6 / 7


def test_the_gradients_of_figure_1_are_those_of_the_policy_loss() -> None:
    strategy = macro_strategy("joint")
    vectors = strategy.ask(8)
    scores = [planted(v) for v in vectors]
    samples = strategy.joint.evaluate(torch.tensor(vectors))
    advantage = torch.tensor(scores) - sum(scores) / 8
    scale = advantage.square().mean().sqrt()
    loss = -(advantage / scale * samples.log_prob_M).mean()
    loss.backward()
    expected = {
        domain: torch.cat([p.grad.flatten() for p in strategy.joint.parameters_of(domain)]).norm()
        for domain in ("operators", "skips")
    }
    strategy.tell(vectors, scores)
    for domain, norm in expected.items():
        assert strategy.metrics()[f"gradient_{domain}"] == pytest.approx(float(norm), rel=1e-4)


def test_alternating_moves_one_domain_at_a_time_and_never_loses_the_best() -> None:
    strategy = macro_strategy("alternating")
    moved = set()
    for _ in range(24):
        domain, fixed = strategy.domain, strategy.fixed
        vectors = strategy.ask(6)
        still = SPACE.skips if domain == "operators" else SPACE.operators
        assert all(v[i] == fixed[i] for v in vectors for i in still)
        moved.add(domain)
        strategy.tell(vectors, [planted(v) for v in vectors])
    assert moved == {"operators", "skips"}
    assert strategy.best_rewards == sorted(strategy.best_rewards)
    assert [p.domain for p in strategy.phases] == ["operators", "skips"] * 4
    rewards = [p.reward for p in strategy.phases]
    assert rewards == sorted(rewards)
    for positions in (SPACE.operators, SPACE.skips):
        assert any(strategy.phases[-1].vector[i] for i in positions), (
            "both have left where they began"
        )
    with pytest.raises(ConfigError, match="Put each position into one"):
        AlternatingStrategy(SPACE.choices, [0, 1], [1, 2])
