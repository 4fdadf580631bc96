import pytest
import torch
from models import MACRO_OPTIMUM, MACRO_SPACE, macro_value, play

from refiner.core.errors import ConfigError
from refiner.enas.alternating import AlternatingStrategy
from refiner.search.policy_gradient import ControllerConfig


def make(seed: int = 0, period: int = 5) -> AlternatingStrategy:
    config = ControllerConfig(hidden_size=16)
    return AlternatingStrategy(
        MACRO_SPACE.choices,
        MACRO_SPACE.operators,
        MACRO_SPACE.skips,
        seed=seed,
        period=period,
        config=config,
    )


def test_best_rewards_never_fall_and_phases_take_turns() -> None:
    strategy = make()
    play(strategy, 23, macro_value)
    assert strategy.best_rewards == sorted(strategy.best_rewards)
    assert len(strategy.best_rewards) == 23
    assert [phase.domain for phase in strategy.phases] == ["operators", "skips"] * 2
    rewards = [phase.reward for phase in strategy.phases]
    assert rewards == sorted(rewards)
    assert all(macro_value(phase.vector) == phase.reward for phase in strategy.phases)


def test_the_fixed_domain_is_fixed_in_a_phase_and_both_move() -> None:
    strategy = make()
    log = play(strategy, 20, macro_value)
    fixed = (0,) * 7
    for phase in range(4):
        vectors = [v for asked in log[5 * phase : 5 * phase + 5] for v in asked]
        still, moving = MACRO_SPACE.skips, MACRO_SPACE.operators
        if phase % 2:
            still, moving = moving, still
        assert {tuple(v[i] for i in still) for v in vectors} == {tuple(fixed[i] for i in still)}
        assert len({tuple(v[i] for i in moving) for v in vectors}) > 1
        fixed = strategy.phases[phase].vector
    assert fixed == strategy.fixed == strategy.best[0]


def test_a_planted_optimum_is_found() -> None:
    strategy = make()
    play(strategy, 60, macro_value)
    assert strategy.recommend(5)[0] == MACRO_OPTIMUM
    assert strategy.best_rewards[-1] == 1


def test_the_seed_decides_and_global_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    logs = [play(make(seed), 12, macro_value) for seed in (0, 0, 1)]
    assert logs[0] == logs[1] != logs[2]
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("before", [0, 3, 5, 8])
def test_a_saved_state_goes_on_to_the_bit(before: int, tmp_path) -> None:
    strategy = make()
    play(strategy, before, macro_value)
    torch.save(strategy.state_dict(), tmp_path / "state.pt")
    told = strategy.metrics()
    expected = (
        play(strategy, 9, macro_value),
        strategy.recommend(4),
        strategy.metrics(),
        strategy.phases,
    )
    other = make(seed=99)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.metrics() == told
    assert (
        play(other, 9, macro_value),
        other.recommend(4),
        other.metrics(),
        other.phases,
    ) == expected
    assert other.best_rewards == strategy.best_rewards


def test_an_equal_reward_of_a_phase_takes_the_place() -> None:
    strategy = make(period=1)
    first, second = strategy.ask(1)[0], None
    strategy.tell([first], [0.5])
    assert strategy.fixed == first
    while second is None or second == first:
        second = strategy.ask(1)[0]
    strategy.tell([second], [0.5])
    assert strategy.fixed == second
    third = strategy.ask(1)[0]
    strategy.tell([third], [0.4])
    assert strategy.fixed == second
    assert [phase.reward for phase in strategy.phases] == [0.5, 0.5, 0.5]


def test_a_stranger_teaches_nothing_but_may_become_the_best() -> None:
    strategy, twin = make(), make()
    asked = strategy.ask(6)
    assert twin.ask(6) == asked
    scores = [macro_value(v) for v in asked]
    stranger = (0, 0, 0, 1, 0, 1, 1)  # its skips are not the fixed ones
    strategy.tell([*asked, stranger], [*scores, 9.0])
    twin.tell(asked, scores)
    assert strategy.ask(6) == twin.ask(6)
    assert strategy.best == (stranger, 9.0)
    assert strategy.recommend(3)[0] == stranger
    strategy.tell([stranger], [9.0])  # nothing to learn from
    assert len(strategy.best_rewards) == 2
    play(strategy, 3, macro_value)
    assert strategy.fixed == stranger


def test_metrics_are_of_the_last_tell() -> None:
    strategy = make()
    assert strategy.metrics() == {}
    play(strategy, 5, macro_value)
    metrics = strategy.metrics()
    assert set(metrics) == {"entropy", "baseline", "gradient_operators", "best", "phase"}
    assert (metrics["best"], metrics["phase"]) == (strategy.best_rewards[-1], 0)
    play(strategy, 1, macro_value)
    assert strategy.metrics()["phase"] == 1


def test_recommendations_differ_and_come_before_any_tell() -> None:
    assert make().recommend(3)
    strategy = make()
    play(strategy, 8, macro_value)
    recommended = strategy.recommend(4)
    assert 1 <= len(set(recommended)) == len(recommended) <= 4


def test_any_split_of_positions() -> None:
    strategy = AlternatingStrategy([["a", "b"], ["a", "b", "c"], ["a"]], [1], [0, 2], period=1)
    assert {(v[0], v[2]) for v in strategy.ask(20)} == {(0, 0)}
    strategy.tell([(0, 2, 0)], [1.0])
    assert {v[1] for v in strategy.ask(20)} == {2}


def test_errors() -> None:
    for operators, skips in (([0], [0, 1]), ([0], []), ([0, 1], []), ([0], [2])):
        with pytest.raises(ConfigError, match="Put each position into one of them"):
            AlternatingStrategy([["a", "b"], ["a", "b"]], operators, skips)
    with pytest.raises(ConfigError, match="period is 0"):
        make(period=0)
