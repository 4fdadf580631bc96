import copy
import itertools

import pytest
import torch
from models import HeadTask, TinyResNet, batches
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from refiner.core.errors import ConfigError, DataError, TrainingError
from refiner.core.progress import Silent
from refiner.training.devices import Devices
from refiner.training.loop import TrainConfig, WeightTrainer, train
from refiner.training.task import Classification, Regression

CPU = Devices.choose("cpu")


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


def test_the_trained_network_is_scored_on_the_test_data_with_its_head() -> None:
    torch.manual_seed(0)
    start, data, test = TinyResNet(), batches(3), batches(2, seed=8)
    config = TrainConfig(epochs=3, lr_max=0.05)

    def run(val: list, test: list | None):
        model = copy.deepcopy(start)
        options = {"devices": CPU, "config": config, "test_loader": test}
        return train(model, data, val, HeadTask(), **options), model.state_dict()

    (plain, before), (tested, after) = run(data, None), run(data, test)
    assert (plain.test, plain.reported) == (None, plain.score)
    assert (tested.score, tested.losses) == (plain.score, plain.losses)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert tested.reported == tested.test == run(test, None)[0].score != tested.score


def test_the_learning_rate_rises_step_by_step_over_the_epochs() -> None:
    config = TrainConfig(epochs=2, schedule="cosine", warmup_steps=4)
    rates: list[float] = []
    train(
        TinyResNet(), batches(2), batches(1), Classification(), devices=CPU, config=config,
        on_epoch=lambda s: rates.append(s["trainer"]["optimizer"]["param_groups"][0]["lr"]),
    )  # fmt: skip
    # The last steps of the two epochs are the second and the fourth of the four.
    expected = [config.learning_rate(moment, 2) * step / 5 for moment, step in ((0.5, 2), (1.5, 4))]
    assert rates == pytest.approx(expected)


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


def test_a_head_of_the_task_is_trained_from_where_it_was_each_time() -> None:
    task, data, results = HeadTask(), batches(4), []
    before = task.weight.detach().clone()
    for _ in range(2):
        torch.manual_seed(0)
        results.append(
            train(
                TinyResNet(),
                data,
                data,
                task,
                devices=CPU,
                config=TrainConfig(epochs=2, lr_max=0.05),
            )
        )
    assert results[0] == results[1]
    assert torch.equal(task.weight, before), "the caller's task is never changed"
    torch.manual_seed(0)
    frozen = HeadTask()
    frozen.weight.requires_grad_(False)
    fixed = train(
        TinyResNet(), data, data, frozen, devices=CPU, config=TrainConfig(epochs=2, lr_max=0.05)
    )
    assert fixed.losses != results[0].losses, "the head takes part in the training"


class Slope(Regression):
    """The loss is the output, so the gradient of a single weight is its input; notes the weight."""

    def __init__(self) -> None:
        self.weights: list[float] = []

    def loss(self, model, batch):
        self.weights.append(float(model.weight.detach()))
        return model(batch[0]).sum()


def weights_of(start: float = 0.0, **settings: object) -> list[float]:
    """Return the weight before each of four steps and after them: one step for each epoch."""
    model, task = nn.Linear(1, 1, bias=False), Slope()
    nn.init.constant_(model.weight, start)
    data = [(torch.ones(1, 1), torch.zeros(1, 1))]
    plain = {"lr_max": 1.0, "lr_min": 0.0, "schedule": "step", "momentum": 0.0, "weight_decay": 0.0}
    config = TrainConfig(epochs=4, **{**plain, **settings})
    train(model, data, data, task, devices=CPU, config=config)
    return [*task.weights, float(model.weight.detach())]


def test_the_steps_by_hand() -> None:
    # The rates are 1, 1, 0.1 and 0.01; the gradient is 1.
    assert weights_of() == pytest.approx([0, -1, -2, -2.1, -2.11])
    assert weights_of(gradient_clip=0.25) == pytest.approx([0, -0.25, -0.5, -0.525, -0.5275])
    # The velocity is 1, 1.5, 1.75, 1.875.
    assert weights_of(momentum=0.5) == pytest.approx([0, -1, -2.5, -2.675, -2.69375])
    # The gradients are 1 + 1, 1 + 0, 1 - 0.5, 1 - 0.525.
    assert weights_of(2.0, weight_decay=0.5) == pytest.approx([2, 0, -1, -1.05, -1.05475])


def test_the_steps_of_a_warm_up_are_counted_over_epochs() -> None:
    # The rates are 1/3, 2/3, 0.1 and 0.01.
    assert weights_of(warmup_steps=2) == pytest.approx([0, -1 / 3, -1, -1.1, -1.11])


def test_the_rate_falls_within_an_epoch_too() -> None:
    model, data = nn.Linear(1, 1, bias=False), [(torch.ones(1, 1), torch.zeros(1, 1))] * 2
    task = Slope()
    config = TrainConfig(
        epochs=2, lr_max=1.0, lr_min=0.0, schedule="cosine", momentum=0.0, weight_decay=0.0
    )
    train(model, data, data, task, devices=CPU, config=config)
    steps = [a - b for a, b in itertools.pairwise([*task.weights, float(model.weight.detach())])]
    assert steps == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_the_defaults_are_those_of_the_sources() -> None:
    config = TrainConfig()
    assert (config.momentum, config.weight_decay, config.gradient_clip) == (0.9, 5e-4, 5.0)
    assert (config.lr_max, config.lr_min, config.schedule) == (0.1, 0.0001, "sgdr")


def test_no_epoch_leaves_the_model_and_scores_it() -> None:
    model, data = TinyResNet(), batches(2)
    before = copy.deepcopy(model.state_dict())
    result = train(
        model, data, data, Classification(), devices=CPU, config=TrainConfig(epochs=0)
    )  # fmt: skip
    assert result.losses == ()
    assert 0 <= result.score <= 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_seed_orders_a_loader_with_a_generator_of_its_own_and_leaves_that_alone() -> None:
    images, labels = (torch.cat(each) for each in zip(*batches(4)))
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    loader, val_loader = (
        DataLoader(TensorDataset(images, labels), 8, shuffle=True, generator=each)
        for each in generators
    )
    start, states = TinyResNet(), [each.get_state() for each in generators]
    found = [
        train(
            copy.deepcopy(start), loader, val_loader, Classification(), devices=CPU,
            config=TrainConfig(epochs=2, lr_max=0.05), seed=seed,
        ).losses
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert found[0] == found[1] != found[2]
    for generator, state in zip(generators, states):
        assert torch.equal(generator.get_state(), state)


def test_each_epoch_has_an_order_of_its_own() -> None:
    class Noted(Classification):
        def loss(self, model, batch):
            orders[-1].extend(batch[1].tolist())
            return super().loss(model, batch)

    orders: list[list[int]] = [[]]
    images, labels = (torch.cat(each) for each in zip(*batches(4)))
    train(
        TinyResNet(), DataLoader(TensorDataset(images, labels), 8, shuffle=True), batches(1),
        Noted(), devices=CPU, config=TrainConfig(epochs=3, lr_max=0.05),
        on_epoch=lambda _: orders.append([]),
    )  # fmt: skip
    first, second, third, _ = orders
    assert sorted(first) == sorted(second) == sorted(third) == sorted(labels.tolist())
    assert first != second != third != first


def test_steps_are_taken_in_train_mode_and_buffers_averaged_after_each_epoch() -> None:
    class Noted(Devices):
        def average_buffers(self, module: nn.Module) -> None:
            averaged.append(module)

    class Task(HeadTask):
        def loss(self, model, batch):
            modes.append((model.training, self.training, torch.is_grad_enabled()))
            return super().loss(model, batch)

    averaged: list[nn.Module] = []
    modes: list[tuple[bool, bool, bool]] = []
    model, data = TinyResNet().eval(), batches(2)
    train(
        model, data, data, Task().eval(), devices=Noted(CPU.accelerator),
        config=TrainConfig(epochs=3, lr_max=0.01),
    )  # fmt: skip
    assert modes == [(True, True, True)] * 6
    assert averaged == [model] * 3


def test_a_head_is_averaged_and_resumes_to_the_bit() -> None:
    class Noted(Devices):
        def average_gradients(self, module: nn.Module) -> None:
            assert module.weight.grad is not None
            averaged.append(module)

    averaged: list[nn.Module] = []
    start, data, states = TinyResNet(), batches(2), []
    options = {"devices": Noted(CPU.accelerator), "config": TrainConfig(epochs=3, lr_max=0.05)}
    whole = train(
        copy.deepcopy(start), data, data, HeadTask(), **options,
        on_epoch=lambda state: states.append(copy.deepcopy(state)),
    )  # fmt: skip
    assert len(averaged) == 6
    resumed = train(copy.deepcopy(start), data, data, HeadTask(), **options, state=states[1])
    assert resumed == whole


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (lambda y: y.sum(1), r"tensor of shape \(8,\)"),
        (lambda y: y.sum().detach(), r"tensor of shape \(\)"),
        (lambda y: 1.0, "float"),
    ],
)
def test_losses_that_are_no_scalar_with_a_gradient_are_refused(wrong, kind: str) -> None:
    class Wrong(Classification):
        def loss(self, model, batch):
            return wrong(model(batch[0]))

    with pytest.raises(ConfigError, match=rf"Wrong\.loss gives a {kind}. Return a scalar"):
        train(TinyResNet(), batches(1), batches(1), Wrong(), devices=CPU)


def test_a_loader_that_gives_nothing_is_refused() -> None:
    class Empty(list):
        def __len__(self) -> int:
            return 2

    with pytest.raises(DataError, match="training loader gave no batch"):
        train(TinyResNet(), Empty(), batches(1), Classification(), devices=CPU)


def test_in_eval_mode_nothing_is_dropped_and_recurrent_layers_still_learn() -> None:
    modes: list[bool] = []
    network = nn.ModuleDict({"drop": nn.Dropout(), "norm": nn.BatchNorm1d(3), "rnn": nn.GRU(3, 3)})

    class Looking(Classification):
        def loss(self, model, batch):
            modes.extend(module.training for module in model.values())
            return model["rnn"](batch[0])[0].sum()

    trainer = WeightTrainer(network, Looking(), CPU, TrainConfig(), epochs=1)
    trainer.epoch([(torch.randn(2, 3), torch.zeros(2))], 0, Silent(), train_mode=False)
    assert modes == [False, False, True]
