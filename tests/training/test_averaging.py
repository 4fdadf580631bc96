import copy

import torch
from models import HeadTask, TinyResNet, batches
from torch import nn

from refiner.training.averaging import MovingAverage
from refiner.training.devices import Devices
from refiner.training.loop import TrainConfig, train
from refiner.training.task import Classification

CPU = Devices.choose("cpu")


def test_the_decay_rises_to_the_one_asked_for() -> None:
    norm = nn.BatchNorm1d(1)
    average = MovingAverage([norm], 0.2, CPU)
    norm.weight.data.fill_(12.0)
    norm.running_mean.fill_(11.0)
    norm.num_batches_tracked.fill_(3)
    average.update()  # of 1 and 12, with a decay of 2 / 11
    average.put_in_place()
    assert torch.allclose(norm.weight, torch.tensor([10.0]))
    assert torch.allclose(norm.running_mean, torch.tensor([9.0])), "statistics are averaged, too"
    assert norm.num_batches_tracked == 3
    norm.weight.data.fill_(0.0)
    average.update()  # 3 / 12 is above 0.2
    average.put_in_place()
    assert torch.allclose(norm.weight, torch.tensor([2.0]))


def test_a_training_ends_with_the_average_and_is_scored_with_it() -> None:
    data, ends, scores = batches(3), [], []
    for decay in (0.0, 1e-12, 0.9):
        torch.manual_seed(0)
        model = TinyResNet()
        config = TrainConfig(epochs=2, lr_max=0.05, ema=decay)
        scores.append(train(model, data, data, Classification(), devices=CPU, config=config).score)
        ends.append(model.state_dict())
    plain, followed, averaged = ends
    assert all(torch.allclose(plain[name], followed[name], atol=1e-6) for name in plain)
    real = [name for name in plain if plain[name].is_floating_point()]
    assert not any(torch.equal(plain[name], averaged[name]) for name in real)
    model.load_state_dict(averaged)
    same = TrainConfig(epochs=0)
    assert train(model, data, data, Classification(), devices=CPU, config=same).score == scores[2]


def test_a_training_with_an_average_resumes_to_the_bit() -> None:
    torch.manual_seed(0)
    start, head, data, states = TinyResNet(), HeadTask(), batches(2), []
    options = {"devices": CPU, "config": TrainConfig(epochs=3, lr_max=0.05, ema=0.9)}
    whole, resumed = copy.deepcopy(start), copy.deepcopy(start)
    first = train(
        whole, data, data, head, **options, on_epoch=lambda s: states.append(copy.deepcopy(s))
    )
    for state in states[1:]:  # also after the last epoch
        assert train(resumed, data, data, head, **options, state=state) == first
        pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
