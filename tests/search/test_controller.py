import math

import pytest
import torch

from refiner.cost.feasible import FeasibleSet
from refiner.search.controller import Controller

CHOICES = [["original", "a", "b"], ["original", "b"], ["original", "a", "b", "c"]]


def make(seed: int = 0) -> Controller:
    return Controller(CHOICES, generator=torch.Generator().manual_seed(seed))


def test_samples_stay_within_their_slots_and_repeat() -> None:
    controller = make()
    one = controller.sample(200, torch.Generator().manual_seed(1))
    two = controller.sample(200, torch.Generator().manual_seed(1))
    assert torch.equal(one.index_MS, two.index_MS)
    assert one.index_MS.shape == (200, 3)
    assert one.index_MS.amax(0).tolist() == [2, 1, 3]


def test_probabilities_of_all_architectures_sum_to_one() -> None:
    every = torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(4))
    total = make().evaluate(every).log_prob_M.detach().exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-5)


def test_evaluate_agrees_with_sample() -> None:
    controller = make()
    drawn = controller.sample(16, torch.Generator().manual_seed(2))
    again = controller.evaluate(drawn.index_MS)
    assert torch.allclose(drawn.log_prob_M, again.log_prob_M, atol=1e-6)
    assert torch.allclose(drawn.entropy_M, again.entropy_M, atol=1e-6)


def test_a_new_controller_is_near_uniform() -> None:
    entropy = make().sample(1, torch.Generator().manual_seed(0)).entropy_M
    assert float(entropy) == pytest.approx(math.log(3 * 2 * 4), rel=0.01)


def test_frequencies_follow_the_probabilities() -> None:
    controller = make()
    with torch.no_grad():
        controller.slot_bias[0, 1] = 3.0
    drawn = controller.sample(4000, torch.Generator().manual_seed(0)).index_MS[:, 0]
    expected = controller.evaluate(torch.tensor([[1, 0, 0]]))
    # P(first slot = 1), by summing over the others.
    every = torch.cartesian_prod(torch.tensor([1]), torch.arange(2), torch.arange(4))
    probability = float(controller.evaluate(every).log_prob_M.exp().sum())
    assert expected.log_prob_M.shape == (1,)
    assert float((drawn == 1).float().mean()) == pytest.approx(probability, abs=0.03)
    assert controller.greedy()[0] == 1


def test_log_probabilities_have_gradients() -> None:
    controller = make()
    controller.evaluate(torch.tensor([[0, 1, 3]])).log_prob_M.sum().backward()
    assert all(p.grad is not None for p in controller.parameters())


def test_a_new_controller_is_near_uniform_over_what_is_feasible() -> None:
    # Costs of 3 x 2 x 4 choices, of which few cost 10 or 11: the first slot's likeliest is its dearest.
    costs = [[[6], [3], [0]], [[3], [0]], [[4], [3], [2], [0]]]
    feasible = FeasibleSet(costs, [0], [11], least_used=0.9)
    controller = Controller(CHOICES, generator=torch.Generator().manual_seed(0), feasible=feasible)
    every = torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(4))
    inside = [row for row in every.tolist() if 10 <= int(feasible.cost(row)[0]) <= 11]
    assert 0 < len(inside) < len(every)
    p = controller.evaluate(torch.tensor(inside)).log_prob_M.detach().exp()
    assert torch.allclose(p, torch.full_like(p, 1 / len(inside)), rtol=0.05)
    drawn = controller.sample(200, torch.Generator().manual_seed(1)).index_MS.tolist()
    assert {tuple(row) for row in drawn} <= {tuple(row) for row in inside}


def test_weights_begin_small_and_biases_at_zero_by_the_generator_alone() -> None:
    state = torch.get_rng_state()
    one, two, other = (dict(make(seed).named_parameters()) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert not one["slot_bias"].any()
    for name, weight in one.items():
        assert float(weight.detach().abs().max()) <= 0.1
        assert torch.equal(weight, two[name])
        assert name == "slot_bias" or not torch.equal(weight, other[name])
