import math

import pytest
import torch
from models import MACRO_OPTIMUM, MACRO_SPACE, macro_value, play

from refiner.enas.joint import JointConfig, JointStrategy
from refiner.enas.joint_controller import DOMAINS
from refiner.enas.macro import MacroSpace

SMALL = JointConfig(hidden_size=16)


def test_asked_vectors_are_valid() -> None:
    for vector in JointStrategy(MACRO_SPACE, config=SMALL).ask(30):
        MACRO_SPACE.check(vector)


def test_the_seed_decides_and_global_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    logs = [
        play(JointStrategy(MACRO_SPACE, seed=seed, config=SMALL), 4, macro_value, 8)
        for seed in (0, 0, 1)
    ]
    assert logs[0] == logs[1] != logs[2]
    assert torch.equal(state, torch.get_rng_state())


def test_a_planted_optimum_is_learned() -> None:
    strategy = JointStrategy(MACRO_SPACE, seed=0, config=SMALL)
    play(strategy, 50, macro_value, 16)
    recommended = strategy.recommend(4)
    assert recommended[0] == MACRO_OPTIMUM
    assert len(set(recommended)) == len(recommended) <= 4


def test_a_saved_state_goes_on_to_the_bit(tmp_path) -> None:
    strategy = JointStrategy(MACRO_SPACE, seed=0, config=SMALL)
    play(strategy, 3, macro_value, 8)
    torch.save(strategy.state_dict(), tmp_path / "state.pt")
    told = strategy.metrics()
    expected = play(strategy, 3, macro_value, 8), strategy.recommend(4), strategy.metrics()
    other = JointStrategy(MACRO_SPACE, seed=99, config=SMALL)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.metrics() == told
    assert (play(other, 3, macro_value, 8), other.recommend(4), other.metrics()) == expected


def test_nothing_is_watched_before_anything_was_told() -> None:
    strategy = JointStrategy(MACRO_SPACE, config=SMALL)
    assert strategy.metrics() == {}
    assert strategy.recommend(3)


def test_watched_gradients_are_those_of_equation_1() -> None:
    strategy = JointStrategy(MACRO_SPACE, seed=0, config=SMALL)
    play(strategy, 2, macro_value, 8)
    vectors, scores = strategy.ask(3), [0.1, 0.9, 0.4]
    # Equation 1, one architecture after the other, with (R - b) / s for R.
    square = 0.95 * strategy.square + 0.05 * sum((r - strategy.baseline) ** 2 for r in scores) / 3
    weights = [(r - strategy.baseline) / math.sqrt(square) for r in scores]
    expected = {}
    for domain in DOMAINS:
        parameters = strategy.joint.parameters_of(domain)
        total = [torch.zeros_like(p) for p in parameters]
        for vector, weight in zip(vectors, weights):
            log_p = strategy.joint.evaluate(torch.tensor([vector])).log_prob_M[0]
            for sum_of, gradient in zip(total, torch.autograd.grad(log_p, parameters)):
                sum_of += weight * gradient / 3
        expected[domain] = math.sqrt(sum(float(t.square().sum()) for t in total))
    strategy.tell(vectors, scores)
    for domain in DOMAINS:
        assert strategy.metrics()[f"gradient_{domain}"] == pytest.approx(expected[domain], rel=1e-3)
        assert expected[domain] > 0


def test_the_step_follows_the_whole_gradient() -> None:
    config = JointConfig(hidden_size=16, entropy_weight=0.3, skip_weight=0.8)
    strategy = JointStrategy(MACRO_SPACE, seed=0, config=config)
    vectors, scores = strategy.ask(4), [0.0, 1.0, 0.5, 0.5]
    rewards = torch.tensor(scores) - 0.5
    samples = strategy.joint.evaluate(torch.tensor(vectors))
    scaled = rewards / rewards.square().mean().sqrt()
    loss = (
        -(scaled * samples.log_prob_M).mean()
        - 0.3 * samples.entropy_M.mean()
        + 0.8 * samples.skip_kl_M.mean()
    )
    expected = torch.autograd.grad(loss, list(strategy.joint.parameters()))
    strategy.tell(vectors, scores)
    for parameter, gradient in zip(strategy.joint.parameters(), expected):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_the_skip_penalty_draws_the_rate_to_its_target() -> None:
    rates = []
    for weight in (0.0, 5.0):
        config = JointConfig(hidden_size=16, skip_weight=weight, skip_target=0.1)
        strategy = JointStrategy(MACRO_SPACE, seed=0, config=config)
        for _ in range(30):
            vectors = strategy.ask(8)
            strategy.tell(vectors, [0.5] * 8)
        drawn = torch.tensor(strategy.ask(500))[:, list(MACRO_SPACE.skips)]
        rates.append(float(drawn.double().mean()))
    assert rates[0] == pytest.approx(0.5, abs=0.1)
    assert rates[1] == pytest.approx(0.1, abs=0.1)


def test_a_space_without_skips_has_no_gradient_of_skips() -> None:
    strategy = JointStrategy(MacroSpace(nodes=2), config=SMALL)
    vectors = strategy.ask(4)
    strategy.tell(vectors, [0.0, 1.0, 0.0, 0.0])
    assert strategy.metrics()["gradient_skips"] == 0
    assert strategy.metrics()["gradient_operators"] > 0
