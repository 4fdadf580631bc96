import copy
from itertools import pairwise

import pytest
import torch
from models import TinyResNet, images
from torch import nn

from refiner.core.errors import ConfigError
from refiner.distill.refit import LEAST_SQUARES, STEPS, RefitConfig, blocks_of, refit
from refiner.space.rewriting import rewrite
from refiner.space.search_space import SearchSpace, search_space
from refiner.training.devices import Devices
from refiner.training.task import Classification

DEVICES = Devices.choose("cpu", "no")
BATCHES = [(images(count=32, seed=i), torch.zeros(32, dtype=torch.long)) for i in range(3)]


def pair() -> tuple[nn.Module, nn.Module, SearchSpace]:
    """Return a model with norm statistics of the batches, and a network with new operations."""
    torch.manual_seed(0)
    model = TinyResNet()
    with torch.no_grad():
        model.fc.weight *= 10
        for _ in range(20):
            for x, _labels in BATCHES:
                model(x)
    space = search_space(model.eval(), BATCHES[0][0])
    vector = [1] * len(space.slots)
    return model, rewrite(model, space.architecture(vector)), space


def refitted(steps: int, *, seed: int = 0, task=None) -> tuple[nn.Module, nn.Module]:
    model, network, space = pair()
    refit(
        network, model, space, BATCHES, task or Classification(), devices=DEVICES,
        config=RefitConfig(steps=steps, learning_rate=0.02), seed=seed,
    )  # fmt: skip
    return model, network


def distance(model: nn.Module, network: nn.Module) -> float:
    x = BATCHES[0][0]
    with torch.no_grad():
        return float((network.eval()(x) - model.eval()(x)).square().mean())


def test_steps_bring_the_output_nearer() -> None:
    apart = [distance(*refitted(steps)) for steps in (0, 10, 40)]
    assert all(later < 0.7 * earlier for earlier, later in pairwise(apart))


def test_norms_keep_their_statistics_in_the_steps() -> None:
    fitted, stepped = (refitted(steps)[1].state_dict() for steps in (1, 30))
    for name in ("bn.running_mean", "block1.bn1.running_var", "bn.num_batches_tracked"):
        assert torch.equal(fitted[name], stepped[name])
    assert not torch.equal(fitted["fc.weight"], stepped["fc.weight"])


def test_labels_have_no_say() -> None:
    class Reversed(Classification):
        def loss(self, model, batch):
            return super().loss(model, (batch[0], 1 - batch[1]))

    networks = [refitted(4)[1], refitted(4, task=Reversed())[1]]
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_original_and_random_numbers_are_left_alone() -> None:
    model, network, space = pair()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    refit(
        network, model, space, BATCHES, Classification(), devices=DEVICES,
        config=RefitConfig(steps=2),
    )  # fmt: skip
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in (*model.modules(), *network.modules()))


def test_blocks_are_matched_too() -> None:
    """Where the head gives nothing away, only the blocks say how the network should change."""
    model, network, space = pair()
    for net in (model, network):
        nn.init.zeros_(net.fc.weight)
        nn.init.zeros_(net.fc.bias)

    def apart() -> float:
        found = {}
        for net in (model, network):
            block = net.get_submodule(blocks_of(space, model)[0])
            hook = block.register_forward_hook(lambda _m, _i, o, net=net: found.update({net: o}))
            with torch.no_grad():
                net.eval()(BATCHES[0][0])
            hook.remove()
        return float((found[model] - found[network]).square().mean())

    before = apart()
    refit(
        network, model, space, BATCHES, Classification(), devices=DEVICES,
        config=RefitConfig(steps=60, learning_rate=0.1),
    )  # fmt: skip
    assert apart() < 0.7 * before


def test_blocks_are_where_skip_connections_end() -> None:
    model, _, space = pair()
    assert blocks_of(space, model) == ["block1", "block2"]


def test_a_model_without_skip_connections_matches_its_slots() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(),
        nn.Conv2d(4, 2, 1),
    )  # fmt: skip
    space = search_space(model, images())
    assert blocks_of(space, model) == ["3"]


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"learning_rate": 0.0}])
def test_settings_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        RefitConfig(**wrong)


@pytest.mark.parametrize(
    ("scores", "undone"),
    [
        ([0.0, 1, 2], ()),
        ([0.0, 1, 1], (STEPS,)),
        ([0.0, -1, 1], (LEAST_SQUARES,)),
        ([0.0, 0, -1], (LEAST_SQUARES, STEPS)),
    ],
)
def test_parts_that_do_not_raise_the_score_are_undone(scores, undone) -> None:
    model, network, space = pair()
    seen, left = [], list(scores)

    def judge(judged: nn.Module) -> float:
        assert not judged.training
        seen.append(copy.deepcopy(judged.state_dict()))
        return left.pop(0)

    found = refit(
        network, model, space, BATCHES, Classification(), devices=DEVICES,
        config=RefitConfig(steps=5), judge=judge,
    )  # fmt: skip
    assert found == undone
    best = seen[max(range(3), key=lambda i: scores[i])]
    assert all(torch.equal(best[name], value) for name, value in network.state_dict().items())
    assert not network.training


def test_a_model_without_gradients_in_eval_mode_takes_the_steps_in_train_mode() -> None:
    class Frozen(TinyResNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
                return super().forward(x)

    torch.manual_seed(0)
    model = Frozen().eval()
    space = search_space(model, BATCHES[0][0])
    network = rewrite(model, space.architecture([1] * len(space.slots)))
    before = network.fc.weight.clone()
    refit(
        network, model, space, BATCHES, Classification(), devices=DEVICES,
        config=RefitConfig(steps=2),
    )  # fmt: skip
    assert not torch.equal(network.fc.weight, before)
