import copy

import pytest
import torch
from models import TinyResNet, images
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from refiner.distill.front_to_back import FrontToBack, _Joins
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space
from refiner.training.devices import Devices
from refiner.training.task import Classification

DEVICES = Devices.choose("cpu", "no")
BATCHES = [(images(count=32, seed=i), torch.zeros(32, dtype=torch.long)) for i in range(3)]


def trained(model: nn.Module) -> nn.Module:
    """Return a model with norm statistics of the batches, in eval mode."""
    with torch.no_grad():
        for x, _labels in BATCHES * 20:
            model.train()(x)
    return model.eval()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return trained(TinyResNet())


def refitted(network: nn.Module, model: nn.Module, **space) -> dict[str, tuple[float, float]]:
    found = search_space(model, BATCHES[0][0], **space)
    return FrontToBack(model, found, BATCHES, Classification(), devices=DEVICES).fit(network)


def distance(first: nn.Module, second: nn.Module) -> float:
    x = images(count=64, seed=9)
    with torch.no_grad():
        return float((first.eval()(x) - second.eval()(x)).square().mean())


def noisy(model: nn.Module, *names: str) -> nn.Module:
    """Return a copy of which the weights of some convs are wrong."""
    network = copy.deepcopy(model)
    torch.manual_seed(1)
    with torch.no_grad():
        for name in names:
            weight = network.get_submodule(name).weight
            weight += 0.3 * weight.std() * torch.randn_like(weight)
    return network


def test_the_original_stays_what_it_is(model) -> None:
    network = copy.deepcopy(model)
    errors = refitted(network, model)
    assert set(errors) == {
        site.conv for slot in search_space(model, images()).slots for site in slot.sites
    }
    assert all(after <= before < 1e-6 for before, after in errors.values())
    assert distance(network, model) < 1e-8


def test_new_operations_come_nearer(model) -> None:
    space = search_space(model, BATCHES[0][0])
    network = rewrite(model, space.architecture([1] * len(space.slots)))
    before = distance(network, model)
    errors = refitted(network, model)
    assert errors
    assert all(after < before for before, after in errors.values())
    assert distance(network, model) < 0.5 * before


def test_wrong_weights_are_found_again(model) -> None:
    network = noisy(model, "block1.conv1", "block2.conv1")
    before = distance(network, model)
    refitted(network, model)
    assert distance(network, model) < 0.01 * before


def test_narrow_convs_follow_the_channels_that_they_keep(model) -> None:
    """The stem is no slot; its error reaches a pruned group through all inner channels."""
    space = search_space(model, BATCHES[0][0], granularity="group")
    keep = [names.index("keep0.5") for names in space.candidates]
    network = rewrite(model, space.architecture(keep))
    with torch.no_grad():
        network.stem.weight[0] *= 2
        network.stem.weight[1] *= -1
    errors = refitted(network, model, granularity="group")
    assert errors["block1.conv1"][1] < 0.4 * errors["block1.conv1"][0]


def test_the_last_conv_of_a_branch_makes_up_for_the_skip_connection(model) -> None:
    network = copy.deepcopy(model)
    with torch.no_grad():
        network.bn.bias += 0.3  # of the stem, which is no slot

    def apart() -> float:
        x = images(count=64, seed=9)
        with torch.no_grad():
            first, second = (
                net.eval().block1(torch.relu(net.bn(net.stem(x)))) for net in (model, network)
            )
        return float((first - second).square().mean())

    before = apart()
    refitted(network, model)
    assert apart() < 0.3 * before


def test_a_merged_conv_makes_up_for_the_skip_connection(model) -> None:
    space = search_space(model, BATCHES[0][0], granularity="group", candidates=["merged3x3"])
    network = rewrite(model, space.architecture([1, 1]))
    with torch.no_grad():
        network.bn.bias += 0.3  # of the stem, which is no slot
    before = distance(network, model)
    errors = FrontToBack(model, space, BATCHES, Classification(), devices=DEVICES).fit(network)
    assert set(errors) == {"block1.conv2", "block2.conv2"}
    assert all(after < 0.7 * first for first, after in errors.values())
    assert distance(network, model) < 0.3 * before


def test_a_conv_without_a_norm_is_fitted_with_its_bias() -> None:
    torch.manual_seed(0)
    convs = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3, bias=False)
    model = nn.Sequential(convs[0], convs[1], nn.ReLU(), convs[2]).eval()
    network = noisy(model, "1", "3")
    with torch.no_grad():
        network[1].bias += 1
    assert set(refitted(network, model)) == {"1", "3"}
    assert distance(network, model) < 1e-8


def test_other_convs_are_left_alone() -> None:
    """Depthwise ones, and those that are called twice, which are no slots."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(3, 3, 3, groups=3, padding=1)
            self.twice = nn.Conv2d(3, 3, 3, padding=1)
            self.last = nn.Conv2d(3, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.twice(torch.relu(self.twice(self.depthwise(x)))))

    model = Net().eval()
    network = noisy(model, "depthwise", "twice", "last")
    before = copy.deepcopy(network.state_dict())
    assert "last" in refitted(network, model)
    changed = {n for n, v in network.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"last.weight", "last.bias"}


def test_nothing_else_changes(model) -> None:
    network = noisy(model, "block1.conv1")
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    refitted(network, model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    for module in (*model.modules(), *network.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_the_seed_orders_the_batches_and_global_random_state_is_left_alone(model) -> None:
    x = torch.cat([batch[0] for batch in BATCHES])
    loader = DataLoader(TensorDataset(x, torch.zeros(len(x))), 8, shuffle=True)
    space, state, found = search_space(model, x), torch.get_rng_state(), []
    for seed in (0, 0, 1):
        network = noisy(model, "block1.conv1")
        torch.set_rng_state(state)
        errors = FrontToBack(
            model, space, loader, Classification(), devices=DEVICES, seed=seed
        ).fit(network)
        assert torch.equal(state, torch.get_rng_state())
        found.append(errors)
    assert found[0] == found[1] != found[2]


def test_the_map_is_the_same_in_training(model) -> None:
    """The norms get the statistics of what their convs give now, on the fitted images."""
    network = noisy(model, "block1.conv1", "block1.conv2")
    refitted(network, model)
    x = torch.cat([batch[0] for batch in BATCHES])
    with torch.no_grad():
        inside = network.eval().block1(torch.relu(network.bn(network.stem(x))))
        network.block1.train()
        outside = network.block1(torch.relu(network.bn(network.stem(x))))
    assert float((inside - outside).square().mean() / inside.var()) < 0.01


@pytest.mark.parametrize("add", [
    lambda a, b: a + b,
    lambda a, b: b + a,
    lambda a, b: torch.add(a, b),
    lambda a, b: a.add_(b),
    lambda a, b: b.add(a),
], ids=["plus", "reversed", "add", "in_place", "method"])  # fmt: skip
def test_additions_are_seen(add) -> None:
    output, other, found = torch.ones(2, 3), torch.zeros(2, 3), []
    with _Joins() as joins:
        joins.expect(output, lambda *operands: found.append(operands))
        add(output, other)
    assert [(a is output, b is other) for a, b in found] == [(True, True)]


@pytest.mark.parametrize("add", [
    lambda a, b: a.relu_() + b,  # not the output as it was
    lambda a, b: a + b[:1],
    lambda a, b: a + 1,
    lambda a, b: torch.add(a, b, alpha=2),
    lambda a, b: a * b,
    lambda a, b: torch.cat([a, b]).sum() + a + b,  # read before: what read it is gone by now
    lambda a, b: a + a,
    lambda a, b: torch.relu(a) + b,
], ids=["changed", "broadcast", "number", "scaled", "product", "read", "doubled", "activated"])  # fmt: skip
def test_other_additions_are_not(add) -> None:
    output, found = torch.ones(2, 3), []
    with _Joins() as joins:
        joins.expect(output, lambda *operands: found.append(operands))
        add(output, torch.zeros(2, 3))
    assert not found


def test_a_norm_with_an_activation_is_not_folded_into_the_conv() -> None:
    class Activated(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(super().forward(x))

    torch.manual_seed(0)
    convs = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 4, 3)
    model = trained(nn.Sequential(convs[0], convs[1], Activated(4), convs[2]))
    network = copy.deepcopy(model)
    refitted(network, model)
    assert distance(network, model) < 1e-8


def test_a_conv_that_computes_its_weight_is_left_alone() -> None:
    torch.manual_seed(0)
    convs = nn.Conv2d(3, 4, 1), nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
    model = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
    assert set(refitted(copy.deepcopy(model), model)) == {"4"}


def test_norms_that_silence_all_channels_are_no_trouble(model) -> None:
    with torch.no_grad():
        model.block1.bn2.weight.zero_()
    network = noisy(model, "block1.conv2")
    refitted(network, model)
    assert distance(network, model) < 1e-6


def test_few_rows_change_nothing(model) -> None:
    network = noisy(model, "block1.conv1")
    before = copy.deepcopy(network.state_dict())
    batch = [(images(count=2), torch.zeros(2))]
    space = search_space(model, images())
    assert not FrontToBack(model, space, batch, Classification(), devices=DEVICES).fit(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_samples_are_bounded_by_the_largest_conv(model, monkeypatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr("refiner.distill.front_to_back._MOST_NUMBERS", 40 * 4 * 8 * 8)
    space = search_space(model, images())
    hook = model.stem.register_forward_pre_hook(lambda _m, x: counts.append(len(x[0])))
    for batches in (BATCHES, [(images(count=64), torch.zeros(64))]):
        FrontToBack(model, space, batches, Classification(), devices=DEVICES).fit(TinyResNet())
    hook.remove()
    assert counts == [32, 40]


class TwoConvs(nn.Module):
    """Two convs whose outputs are added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.first, self.second = (nn.Conv2d(6, 6, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = self.bn1(self.first(x)) + self.bn2(self.second(x))
        return self.fc(torch.relu(x).mean((2, 3)))


def test_what_a_conv_is_fitted_to_does_not_depend_on_networks_before() -> None:
    torch.manual_seed(0)
    model = trained(TwoConvs())
    space = search_space(model, BATCHES[0][0], granularity="conv", candidates=["depthwise3x3"])
    assert len(space.slots) == 2
    vectors = ([0, 0], [1, 0], [0, 1])
    shared = FrontToBack(model, space, BATCHES, Classification(), devices=DEVICES)
    together, alone = [
        [noisy(rewrite(model, space.architecture(v)), "stem") for v in vectors] for _ in range(2)
    ]
    errors = [shared.fit(network) for network in together]
    for network, found in zip(alone, errors, strict=True):
        fit = FrontToBack(model, space, BATCHES, Classification(), devices=DEVICES).fit
        assert fit(network) == found
    assert all(distance(*pair) == 0 for pair in zip(together, alone, strict=True))
    assert set(errors[0]) == {"first", "second"}


def test_the_original_runs_once_for_many_networks(model) -> None:
    space = search_space(model, BATCHES[0][0])
    names = ("block1.conv1", "block2.conv2", "block1.conv2")
    networks, alone = [[noisy(model, name) for name in names] for _ in range(2)]
    errors = [refitted(network, model) for network in alone]
    runs: list[int] = []
    model.register_forward_hook(lambda *_: runs.append(1))
    shared = FrontToBack(model, space, BATCHES, Classification(), devices=DEVICES)
    assert [shared.fit(network) for network in networks[:2]] == errors[:2]
    assert len(runs) == 1
    shared.forget()
    assert shared.fit(networks[2]) == errors[2]
    assert len(runs) == 2
    assert all(distance(*pair) == 0 for pair in zip(networks, alone, strict=True))
