import itertools
import math

import pytest
import torch

from refiner.enas.joint_controller import DOMAINS, JointController
from refiner.enas.macro import MacroSpace

SPACE = MacroSpace(nodes=4, operations=("conv3x3", "maxpool3x3"))


def make(seed: int = 0, space: MacroSpace = SPACE) -> JointController:
    return JointController(space, hidden_size=8, generator=torch.Generator().manual_seed(seed))


def every() -> torch.Tensor:
    return torch.tensor(list(itertools.product(*(range(len(names)) for names in SPACE.choices))))


def sharpened() -> JointController:
    """A policy far from uniform."""
    controller = make()
    with torch.no_grad():
        for parameter in controller.parameters():
            parameter.mul_(20)
        controller.operation_bias[0, 1] = 3.0
        controller.skip_bias[1] = 2.0
    return controller


def test_probabilities_of_all_architectures_sum_to_one() -> None:
    for controller in (make(), sharpened()):
        total = controller.evaluate(every()).log_prob_M.detach().exp().sum()
        assert float(total) == pytest.approx(1, abs=1e-5)


def test_evaluate_agrees_with_sample() -> None:
    controller = sharpened()
    drawn = controller.sample(16, torch.Generator().manual_seed(2))
    again = controller.evaluate(drawn.index_MS)
    assert drawn.index_MS.shape == (16, 7)
    for name in ("log_prob_M", "entropy_M", "skip_kl_M"):
        assert torch.allclose(getattr(drawn, name), getattr(again, name), atol=1e-5)


def test_samples_repeat_and_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    one, two = (make().sample(50, torch.Generator().manual_seed(1)).index_MS for _ in range(2))
    assert torch.equal(one, two)
    assert one.amax(0).tolist() == [1] * 7
    assert torch.equal(state, torch.get_rng_state())


def test_frequencies_follow_the_probabilities() -> None:
    controller = sharpened()
    drawn = controller.sample(4000, torch.Generator().manual_seed(0)).index_MS.double().mean(0)
    probability = controller.evaluate(every()).log_prob_M.detach().exp().double()
    assert torch.allclose(drawn, probability @ every().double(), atol=0.03)


def test_a_new_controller_is_near_uniform() -> None:
    entropy = make().sample(1, torch.Generator().manual_seed(0)).entropy_M
    assert float(entropy.detach()) == pytest.approx(7 * math.log(2), rel=0.01)


def test_greedy_takes_the_likeliest_step() -> None:
    controller = make()
    with torch.no_grad():
        controller.operation_bias[2, 1] = controller.skip_bias[0] = 5.0
        controller.skip_bias[1:] = -5.0
    greedy = controller.greedy().tolist()
    assert greedy[2:4] == [1, 1]
    assert greedy[5:] == [0, 0]


def test_skip_divergence_by_hand() -> None:
    controller = make()
    with torch.no_grad():
        for parameter in controller.parameters():
            parameter.zero_()
    # All skips have probability 1/2: one at node 3, two at node 4; two nodes have any.
    one = 0.5 * math.log(0.5 / 0.4) + 0.5 * math.log(0.5 / 0.6)
    kl = controller.evaluate(torch.zeros(1, 7, dtype=torch.int64)).skip_kl_M
    assert float(kl.detach()) == pytest.approx(3 * one / 2, rel=1e-5)


def test_a_skip_feeds_the_next_node() -> None:
    skip = torch.tensor([[0, 0, 0, 1, 0, 0, 0]])
    scored = sharpened().evaluate(torch.cat([0 * skip, skip]))
    # The two agree up to the skip, so what differs in entropy are the steps after it.
    assert scored.entropy_M[0] != scored.entropy_M[1]


def test_domains_share_no_parameter_and_all_have_gradients() -> None:
    controller = make()
    parts = {domain: controller.parameters_of(domain) for domain in DOMAINS}
    ids = [id(p) for part in parts.values() for p in part]
    assert len(set(ids)) == len(ids) < len(list(controller.parameters()))
    controller.evaluate(torch.tensor([[0, 1, 1, 1, 0, 1, 0]])).log_prob_M.sum().backward()
    assert all(p.grad is not None for p in controller.parameters())


def test_two_nodes_have_no_skip() -> None:
    controller = make(space=MacroSpace(nodes=2, operations=("conv3x3", "maxpool3x3")))
    drawn = controller.sample(3, torch.Generator().manual_seed(0))
    assert drawn.index_MS.shape == (3, 2)
    assert drawn.skip_kl_M.tolist() == [0, 0, 0]
