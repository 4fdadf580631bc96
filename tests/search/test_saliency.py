"""Estimated losses beside measured ones, of candidates that hardly differ from the originals."""

import copy

import pytest
import torch
from models import TinyResNet, batches, images
from torch import nn

from refiner.core.batches import pieces
from refiner.core.errors import ConfigError
from refiner.core.modes import mode
from refiner.search.effects import one_swap
from refiner.search.saliency import estimate_effects
from refiner.space.candidates import NO_BRANCH
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.agreement import Agreement
from refiner.training.devices import Devices
from refiner.training.evaluation import evaluate, recalibrate
from refiner.training.task import Classification, Regression, Segmentation, Task

CPU = Devices.choose("cpu")
DATA = batches(1, seed=5)


class Twice(nn.Module):
    """Calls one conv twice, writes into its output, and has one without a norm."""

    def __init__(self, dense: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 5, 3, padding=1)
        self.dense = dense

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for _ in range(2):
            x = x + torch.relu_(self.conv(x))
        x = self.last(x)
        return x if self.dense else x.mean((2, 3))


def small() -> nn.Module:
    """Return a network whose norms have the statistics of the data."""
    torch.manual_seed(7)
    model = TinyResNet()
    recalibrate(model, DATA, Classification(), CPU)
    return model


def close(model: nn.Module, granularity: str = "conv") -> Supernet:
    """Return a supernet whose first candidates are the originals with slightly changed weights."""
    net = Supernet(model.eval(), search_space(model, images(), granularity=granularity)).eval()
    generator = torch.Generator().manual_seed(1)
    for slot in net.space.slots:
        for site in slot.sites:
            mixed = net.mixed(site.conv)
            mixed.operations[1] = copy.deepcopy(mixed.operations[0])
            weight = mixed.operations[1].weight
            noise = torch.randn(weight.shape, generator=generator)
            weight.data += 0.1 * weight.detach().std() * noise
    return net


def measured(net: Supernet, vector: tuple[int, ...], task: Task) -> float:
    """Return the loss of agreement with the statistics as they are."""
    net.select((0,) * len(vector))
    agreement = Agreement(task, copy.deepcopy(net.model))
    net.select(vector)
    return -evaluate(net.model, DATA, agreement, CPU)


def singles_and_pairs(net: Supernet) -> list[tuple[int, ...]]:
    slots = len(net.candidates)
    return [*(one_swap(slots, s, 1) for s in range(slots)), (1,) * slots]


@pytest.mark.parametrize("granularity", ["conv", "block"])
def test_losses_of_small_changes_are_those_that_are_measured(granularity: str) -> None:
    net, task = close(small(), granularity), Classification()
    effects = estimate_effects(net, DATA, DATA, task, devices=CPU, draws=300)
    for vector in singles_and_pairs(net):
        assert effects.loss(vector) == pytest.approx(measured(net, vector, task), rel=0.25)


def test_a_removed_branch_costs_the_same_as_a_block_and_as_a_group() -> None:
    def loss(granularity: str) -> list[float]:
        model, names = small().eval(), [NO_BRANCH, "avgpool3x3"]
        net = Supernet(
            model, search_space(model, images(), granularity=granularity, candidates=names)
        )
        assert net.candidates == (("original", *names),) * 2
        effects = estimate_effects(net, DATA, DATA, Classification(), devices=CPU)
        return [effects.single(slot, 1) for slot in range(2)]

    block = loss("block")
    assert min(block) > 0
    assert block == pytest.approx(loss("group"), rel=1e-6)


@pytest.mark.parametrize("dense", [False, True])
def test_a_conv_that_is_called_twice_counts_with_both_calls(dense: bool) -> None:
    torch.manual_seed(7)
    net = close(Twice(dense))
    task: Task = Segmentation() if dense else Classification()
    data = [(x, torch.zeros(len(x), *x.shape[2:], dtype=torch.long)) for x, _ in DATA]
    data = data if dense else DATA
    effects = estimate_effects(net, data, [], task, devices=CPU, draws=400)
    net.select((0,) * len(net.candidates))
    agreement = Agreement(task, copy.deepcopy(net.model))
    for vector in singles_and_pairs(net):
        net.select(vector)
        loss = -evaluate(net.model, data, agreement, CPU)
        assert effects.loss(vector) == pytest.approx(loss, rel=0.25)


def test_outputs_that_are_no_logits_go_by_squared_error() -> None:
    net, task = close(small()), Regression()
    data = [(x, torch.zeros(len(x), 10)) for x, _ in DATA]
    effects = estimate_effects(net, data, data, task, devices=CPU, draws=300)
    net.select((0,) * 4)
    agreement = Agreement(task, copy.deepcopy(net.model))
    for vector in singles_and_pairs(net):
        net.select(vector)
        loss = -evaluate(net.model, data, agreement, CPU)
        assert effects.loss(vector) == pytest.approx(loss, rel=0.25)


def test_the_part_that_is_compared_is_the_one_that_counts() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 5 * self.inner(x)

    class Inner(Classification):
        def compared_network(self, model: nn.Module) -> nn.Module:
            return model.inner

    net = close(Scaled())
    effects = estimate_effects(net, DATA, DATA, Inner(), devices=CPU, draws=300)
    vector = (1,) * len(net.candidates)
    assert effects.loss(vector) == pytest.approx(measured(net, vector, Inner()), rel=0.25)


def test_a_divergence_of_the_task_s_own_counts_as_squared_error() -> None:
    class Own(Regression):
        def divergence(self, output, target):
            return (output - target).abs().mean()

    data = [(x, torch.zeros(len(x), 10)) for x, _ in DATA]
    found = [
        estimate_effects(close(small()), data, data, task, devices=CPU).gram_JJ
        for task in (Regression(), Own())
    ]
    assert (found[0] == found[1]).all()


def test_the_originals_stay_and_the_candidates_norms_are_set() -> None:
    torch.manual_seed(7)
    model = TinyResNet().eval()
    net = Supernet(model, search_space(model, images(), granularity="group"))
    net.select((2, 1))
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    estimate_effects(net, DATA, batches(2), Classification(), devices=CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert net.vector == (2, 1)
    changed = {name for name, v in net.state_dict().items() if not torch.equal(v, before[name])}
    changed = {name for name in changed if "num_batches" not in name}
    assert changed
    assert all("running" in name for name in changed)
    assert not any(".operations.0." in name for name in changed)
    assert not any(p.grad is not None for p in net.parameters())


def test_one_seed_gives_one_estimate_whatever_the_mode() -> None:
    grams = []
    for training in (True, False):
        net = close(small())
        with mode(net, training):
            effects = estimate_effects(net, DATA, DATA, Classification(), devices=CPU, seed=3)
        grams.append(torch.from_numpy(effects.gram_JJ))
    assert torch.equal(*grams)
    starts = effects.starts
    assert (effects.gram_JJ[starts] == 0).all()
    assert (effects.gram_JJ[:, starts] == 0).all()


@pytest.mark.parametrize("task", [Classification(), Regression()])
def test_large_batches_give_the_same_in_pieces(task: Task, monkeypatch) -> None:
    net = close(small())
    whole = estimate_effects(net, DATA, DATA, task, devices=CPU, draws=1)
    taken: list[int] = []

    def halves(batch):
        found = list(pieces(batch, batch[0].numel() // 2 + len(batch[0])))
        taken.append(len(found))
        return found

    monkeypatch.setattr("refiner.search.saliency.pieces", halves)
    parts = estimate_effects(net, DATA, DATA, task, devices=CPU, draws=1)
    assert taken == [2] * len(DATA) * isinstance(task, Classification)
    assert parts.gram_JJ == pytest.approx(whole.gram_JJ, rel=1e-3, abs=1e-9)


def test_a_frozen_model_has_effects_and_an_output_without_gradient_none() -> None:
    class Cut(Classification):
        @torch.no_grad()
        def run(self, model, batch):
            return super().run(model, batch)

    net = close(small()).requires_grad_(False)
    effects = estimate_effects(net, DATA, DATA, Classification(), devices=CPU)
    assert effects.loss((1, 1, 1, 1)) > 0
    with pytest.raises(ConfigError, match="no gradient"):
        estimate_effects(net, DATA, DATA, Cut(), devices=CPU)
    assert net.vector == (0, 0, 0, 0)


def test_weights_that_candidates_add_are_counted() -> None:
    model = small().eval()
    net = Supernet(model, search_space(model, images()))
    effects = estimate_effects(net, DATA, DATA, Classification(), devices=CPU)
    convs = ("block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2")
    whole = sum(model.get_submodule(name).weight.numel() for name in convs)
    whole += 2 * (4 + 4 + 8 + 8)  # the norms
    before = sum(p.numel() for p in model.parameters())
    for vector in [(0, 0, 0, 0), (2, 0, 0, 1), (1, 2, 0, 3)]:
        added = sum(p.numel() for p in net.emit(vector).parameters()) - before
        assert effects.weights(vector) == pytest.approx(1 + added / whole)
