import copy

import pytest
import torch
from models import TinyResNet, batches

from refiner.devices import Devices
from refiner.errors import ConfigError, DataError, TrainingError
from refiner.task import Classification
from refiner.training import TrainConfig, sgdr, train

CPU = Devices.choose("cpu")


def test_schedule_of_the_paper() -> None:
    config = TrainConfig()
    for epochs, first in ((150, 10), (35, 5)):
        starts = [first * (2**k - 1) for k in range(4) if first * (2**k - 1) < epochs]
        for start in starts:
            assert sgdr(start, epochs, config) == pytest.approx(0.1)
        assert len(starts) == {150: 4, 35: 3}[epochs]
        assert sgdr(first - 1e-6, epochs, config) == pytest.approx(0.0001, rel=1e-3)
        assert sgdr(first / 2, epochs, config) == pytest.approx((0.1 + 0.0001) / 2)
        assert sgdr(epochs - 1e-6, epochs, config) == pytest.approx(0.0001, rel=1e-3)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 10, 15, 100])
def test_the_last_cycle_ends_with_the_training(epochs: int) -> None:
    assert sgdr(epochs - 1e-6, epochs, TrainConfig()) < 0.001
    assert sgdr(0, epochs, TrainConfig()) == pytest.approx(0.1)


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match="epochs is -1"):
        TrainConfig(epochs=-1)
    with pytest.raises(ConfigError, match="learning rates"):
        TrainConfig(lr_max=0.0)


def test_training_learns_and_repeats_and_resumes_to_the_bit() -> None:
    start, data = TinyResNet(), batches(4)
    config = TrainConfig(epochs=6, lr_max=0.05)
    states: list[dict] = []
    results, models = [], []
    for _ in range(2):
        model = copy.deepcopy(start)
        results.append(
            train(
                model, data, data, Classification(), devices=CPU, config=config, seed=1,
                on_epoch=lambda s: states.append(copy.deepcopy(s)),
            )
        )  # fmt: skip
        models.append(model)
    assert results[0] == results[1]
    assert results[0].losses[-1] < results[0].losses[0]
    model = copy.deepcopy(start)
    resumed = train(
        model, data, data, Classification(), devices=CPU, config=config, seed=1, state=states[2]
    )
    assert resumed == results[0]
    for other in (models[1], model):
        pairs = zip(models[0].state_dict().values(), other.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_loss_that_is_not_finite_stops_with_a_next_step() -> None:
    data = batches(2)
    data[0][0][0, 0, 0, 0] = float("nan")
    with pytest.raises(TrainingError, match="nan in epoch 1. Lower the learning rate"):
        train(TinyResNet(), data, data, Classification(), devices=CPU)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([(torch.zeros(4, 5, 8, 8), torch.zeros(4, dtype=torch.long))], "4x5x8x8"),
        ([(torch.zeros(4, 3, 8, 8), torch.full((4,), 99))], "labels within its classes"),
        ([], "no batch"),
        (iter(batches(1)), r"no len\(\)"),
    ],
)
def test_loaders_that_do_not_fit(data, message: str) -> None:
    with pytest.raises(DataError, match=message):
        train(TinyResNet(), data, batches(1), Classification(), devices=CPU)


def test_a_model_without_trainable_parameters() -> None:
    model = TinyResNet().requires_grad_(False)
    with pytest.raises(ConfigError, match="Unfreeze"):
        train(model, batches(1), batches(1), Classification(), devices=CPU)
