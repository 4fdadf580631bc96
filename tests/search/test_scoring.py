"""Paths scored with norm statistics of their own."""

import pytest
import torch
from models import TinyResNet, batches, images
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from refiner.core.errors import ConfigError
from refiner.core.progress import Silent
from refiner.data.tensor_loader import TensorLoader
from refiner.search.ranked_refit import RankedRefit
from refiner.search.scoring import Scorer, short
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.evaluation import evaluate
from refiner.training.task import Classification


def loader(train: bool) -> TensorLoader:
    generator = torch.Generator().manual_seed(int(train))
    pixels = torch.randint(0, 256, (32, 3, 8, 8), generator=generator, dtype=torch.uint8)
    half = torch.full((3,), 0.5)
    return TensorLoader(
        pixels, torch.arange(32) % 3, batch_size=8, mean=half, std=half, train=train, flip=train
    )


def make(*, fixed: bool, teacher: bool = False, train_loader=None, refit=None) -> Scorer:
    torch.manual_seed(7)
    model = TinyResNet().eval()
    return Scorer(
        Supernet(model, search_space(model, images())), Classification(), train_loader or loader(True),
        batches(3, seed=1), devices=Devices.choose("cpu"), recalibration_batches=2, fixed=fixed,
        teacher=model if teacher else None, refit=refit,
    )  # fmt: skip


def test_norm_batches_are_the_same_where_the_weights_are() -> None:
    def differs(scorer: Scorer) -> bool:
        first, second = scorer.norm_batches(), scorer.norm_batches()
        assert len(first) == len(second) == 2
        return any(not torch.equal(a, b) for a, b in zip(first[0], second[0], strict=True))

    assert differs(make(fixed=False))
    assert not differs(make(fixed=True))


def test_the_ranking_is_of_the_whole_validation_part_and_keeps_the_norms_it_was_made_with() -> None:
    scorer = make(fixed=True)
    vectors = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 0, 1, 1)]
    ranked = scorer.rank(vectors, Silent())
    assert {each.vector for each in ranked} == set(vectors) == set(scorer.norms)
    assert [e.score for e in ranked] == sorted((e.score for e in ranked), reverse=True)
    for each in ranked:
        network = scorer.supernet.emit(each.vector).eval()
        for norm in network.modules():  # spoiled, then put back by name
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.fill_(9)
        missing = network.load_state_dict(scorer.norms[each.vector], strict=False)
        assert not missing.unexpected_keys
        with torch.no_grad():
            right = sum(int((network(x).argmax(1) == y).sum()) for x, y in batches(3, seed=1))
        assert each.score == pytest.approx(right / 24)


@pytest.mark.parametrize("most", [2**30, 1])
def test_the_ranking_is_of_refitted_networks_and_leaves_the_shared_weights(
    monkeypatch, most
) -> None:
    monkeypatch.setattr("refiner.search.scoring._MOST_BYTES", most)
    vectors, refitted = [(1, 0, 0, 0), (0, 0, 1, 1), (0, 0, 0, 1)], []

    def refit(network: nn.Module) -> None:
        refitted.append(network)
        with torch.no_grad():
            network.fc.weight.mul_(len(refitted) - 2)

    plain = make(fixed=True, teacher=True)
    scorer = make(fixed=True, teacher=True, refit=RankedRefit(refit, pays=True))
    before = {name: p.clone() for name, p in scorer.network.named_parameters()}
    ranked = {each.vector: each for each in scorer.rank(vectors, Silent())}
    assert all(torch.equal(before[name], p) for name, p in scorer.network.named_parameters())
    agreement = plain.agreement
    for network, vector in zip(refitted, vectors, strict=True):
        alone = evaluate(network, batches(3, seed=1), agreement, scorer.devices)
        assert ranked[vector].agreement == pytest.approx(alone)
        own = scorer.norms[vector]
        state = network.state_dict()
        assert all(torch.equal(state[name], norm) for name, norm in own.items())


@pytest.mark.parametrize("pays", [False, True])
def test_one_architecture_settles_whether_refits_pay(pays: bool) -> None:
    counted: list[nn.Module] = []

    def refit(network: nn.Module) -> None:
        counted.append(network)
        state = original.state_dict() if pays else {"fc.weight": 50 * torch.eye(10, 8)}
        network.load_state_dict(state, strict=False)

    vector = (0, 0, 0, 2)  # a conv of other weights in the last place
    scorer = make(fixed=True, teacher=True, refit=RankedRefit(refit))
    assert scorer.agreement is not None
    original = scorer.agreement.teacher
    assert not scorer.refits([(0, 0, 0, 0)])  # the original settles nothing
    assert scorer.refits([(0, 0, 0, 0), vector]) is scorer.refits([]) is pays
    assert len(counted) == 1
    scorer.rank([vector, (0, 0, 0, 0)], Silent())
    assert len(counted) == (3 if pays else 1)


def test_nothing_is_refitted_where_outputs_cannot_be_compared() -> None:
    scorer = make(fixed=True, refit=RankedRefit(lambda _: None))
    assert scorer.refit is None
    assert not scorer.refits([(1, 0, 0, 0)])


def test_weights_that_learn_leave_no_norms() -> None:
    scorer = make(fixed=False)
    scorer.rank([(0, 0, 0, 0)], Silent())
    assert scorer.norms == {}


def test_a_reward_is_agreement_where_there_is_a_teacher() -> None:
    plain, taught = make(fixed=True), make(fixed=True, teacher=True)
    norms, data = taught.norm_batches(), batches(1, seed=1)
    zero, other = (taught.reward_of(v, norms, data) for v in ((0, 0, 0, 0), (1, 1, 1, 1)))
    assert other < zero <= 0
    assert 0 <= plain.reward_of((0, 0, 0, 0), norms, data) <= 1
    assert (plain.reward.metric, taught.reward.metric) == ("accuracy", "agreement")
    taught.forget()
    plain.forget()


def test_short_vectors() -> None:
    assert short((1, 0, 12)) == "1,0,12"
    assert short((1,) * 30) == "1,1,1,1,1,1,1,1,1,...,1,1,1,1,1,1,1,1,1"


def test_a_network_is_emitted_with_the_norms_that_it_was_scored_with() -> None:
    scorer = make(fixed=True)
    vectors = [(1, 0, 0, 0), (0, 0, 0, 0), (0, 0, 1, 1)]
    scorer.rank(vectors, Silent())
    for vector in vectors:
        state = scorer.emit(vector).state_dict()
        assert scorer.norms[vector]
        assert all(torch.equal(state[name], norm) for name, norm in scorer.norms[vector].items())


@pytest.mark.parametrize("teacher", [False, True])
def test_a_wrong_task_shows_at_once_and_the_global_stream_is_left_alone(teacher: bool) -> None:
    class Wrong(Classification):
        def score(self, sums):
            return "good"

    torch.manual_seed(7)
    model = TinyResNet().eval()
    pixels, labels = (torch.cat(each) for each in zip(*batches(3)))
    shuffled = DataLoader(TensorDataset(pixels, labels), 8, shuffle=True)
    net, state = Supernet(model, search_space(model, images())), torch.get_rng_state()
    options = {
        "devices": Devices.choose("cpu"), "recalibration_batches": 1, "fixed": True,
        "teacher": model if teacher else None,
    }  # fmt: skip
    Scorer(net, Classification(), shuffled, shuffled, **options)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ConfigError, match=r"Wrong\.score gives a str"):
        Scorer(net, Wrong(), shuffled, shuffled, **options)
