import math

import pytest
import torch
from models import HeadTask, TinyResNet, batches
from torch import nn

from refiner.core.errors import ConfigError, DataError, TrainingError
from refiner.training.agreement import Agreement
from refiner.training.devices import Devices
from refiner.training.evaluation import (
    evaluate,
    evaluate_both,
    recalibrate,
    rehearse,
    run_tests,
)
from refiner.training.task import Classification

CPU = Devices.choose("cpu")


def test_evaluate_is_the_score_over_all_batches_in_eval_mode() -> None:
    model, data = TinyResNet().train(), batches(3, batch=5)
    score = evaluate(model, data, Classification(), CPU)
    with torch.no_grad():
        right = sum(int((model.eval()(x).argmax(1) == y).sum()) for x, y in data)
    assert score == pytest.approx(right / 15)
    assert not any(p.grad is not None for p in model.parameters())


def test_agreement_and_score_of_one_pass_are_those_of_two() -> None:
    model, teacher, data = TinyResNet(), TinyResNet(), batches(3, batch=5)
    agreement = Agreement(Classification(), teacher)
    (found,) = evaluate_both([lambda: model], data, agreement, CPU)
    assert not agreement._targets
    assert found[0] == pytest.approx(evaluate(model, data, agreement, CPU))
    assert found[1] == evaluate(model, data, Classification(), CPU)


def test_recalibration_gives_the_statistics_of_the_batches() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.9))
    model[1].running_mean += 100
    data = batches(3)

    class Run(Classification):
        def measure(self, module, batch):
            assert not module[2].training
            return module(batch[0]).sum()[None]

    recalibrate(model, data, Run(), Devices.choose("cpu"))
    with torch.no_grad():
        means = torch.stack([model[0](x).mean((0, 2, 3)) for x, _ in data])
        variances = torch.stack([model[0](x).var((0, 2, 3)) for x, _ in data])
    assert torch.allclose(model[1].running_mean, means.mean(0), atol=1e-5)
    assert torch.allclose(model[1].running_var, variances.mean(0), atol=1e-5)
    assert model[1].momentum == 0.1
    assert math.isclose(int(model[1].num_batches_tracked), 3)


def test_norms_that_are_not_called_keep_their_statistics() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(2))
    model[0].other = nn.BatchNorm2d(4)
    model[0].other.running_mean += 7
    recalibrate(model, [(x, x[:, 0, 0]) for x, _ in batches(2)], Sums(), CPU)
    assert torch.equal(model[0].other.running_mean, torch.full((4,), 7.0))
    assert int(model[1].num_batches_tracked) == 2
    assert not model[1]._forward_pre_hooks


class Sums(Classification):
    def measure(self, module, batch):
        return module(batch[0]).sum()[None]


def test_a_rehearsal_shows_what_is_wrong_with_a_task() -> None:
    class Wrong(Classification):
        def score(self, sums):
            return sums

    devices, data = Devices.choose("cpu"), batches(1)
    rehearse(TinyResNet(), data, Classification(), devices)
    with pytest.raises(ConfigError, match=r"Wrong\.score gives a tensor of shape"):
        rehearse(TinyResNet(), data, Wrong(), devices)
    with pytest.raises(DataError, match="no batch"):
        rehearse(TinyResNet(), [], Classification(), devices)


def test_the_users_tests_run_in_eval_mode_without_gradients() -> None:
    def share(network: nn.Module) -> torch.Tensor:
        assert not network.training
        assert not torch.is_grad_enabled()
        return torch.tensor(0.25)

    def fail(_: nn.Module) -> float:
        raise ValueError("no file")

    assert run_tests(TinyResNet().train(), {"share": share, "two": lambda _: 2}) == {
        "share": 0.25,
        "two": 2.0,
    }
    with pytest.raises(ConfigError, match="the test 'fail' fails: .*no file"):
        run_tests(TinyResNet(), {"fail": fail})


class Watched(nn.Module):
    """Notes at each call whether it trains and whether gradients are recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((self.training, torch.is_grad_enabled()))
        return x.flatten(1)[:, :10]


@pytest.mark.parametrize("kind", ["evaluate", "both", "rehearse", "recalibrate"])
def test_scores_are_taken_in_eval_mode_without_gradients(kind: str) -> None:
    data, task, model, teacher = batches(2), HeadTask(), Watched().train(), Watched().train()
    task.train()
    if kind == "evaluate":
        evaluate(model, data, task, CPU)
    elif kind == "both":
        evaluate_both([lambda: model], data, Agreement(task, teacher), CPU)
        assert set(teacher.seen) == {(False, False)}
    elif kind == "rehearse":
        rehearse(model, data, task, CPU)
    else:
        recalibrate(model, data, task, CPU)
    assert set(model.seen) == {(False, False)}
    assert not model.training
    assert kind == "recalibrate" or not task.training


def test_recalibration_forgets_what_norms_knew_and_averages_over_processes() -> None:
    class Noted(Devices):
        def average_buffers(self, module: nn.Module) -> None:
            averaged.append(module)

    averaged: list[nn.Module] = []
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(192, 10))
    model[0].running_mean.fill_(100)
    model[0].num_batches_tracked.fill_(9)
    data = batches(2)
    recalibrate(model, data, Classification(), Noted(CPU.accelerator))
    expected = torch.stack([x.mean((0, 2, 3)) for x, _ in data]).mean(0)
    assert torch.allclose(model[0].running_mean, expected, atol=1e-6)
    assert not any(module.training for module in model.modules())
    assert averaged == [model]


class Answers(Classification):
    """Measures or scores what it is told to."""

    def __init__(self, sums: object = None, score: float = 0.5) -> None:
        super().__init__()
        self.sums, self.value = sums, score

    def measure(self, model, batch):
        return super().measure(model, batch) if self.sums is None else self.sums

    def score(self, sums):
        return self.value


def test_measures_and_scores_that_are_wrong_are_named() -> None:
    model = TinyResNet()
    for sums, kind in ((torch.ones(2, 2), r"tensor of shape \(2, 2\)"), (3.0, "a float")):
        with pytest.raises(ConfigError, match=rf"measure gives a? ?{kind}"):
            evaluate(model, batches(1), Answers(sums), CPU)
    with pytest.raises(DataError, match="gave no batch"):
        evaluate(model, [], Classification(), CPU)
    with pytest.raises(TrainingError, match="score .accuracy. is nan"):
        evaluate(model, batches(1), Answers(score=math.nan), CPU)
    with pytest.raises(DataError, match="fails on a batch of the loader .8x3x8x8, 8"):
        evaluate(nn.Linear(3, 4), batches(1), Classification(), CPU)


def test_a_device_without_memory_is_told_as_that() -> None:
    class Large(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(TrainingError, match="out of memory. Use a smaller --batch-size"):
        evaluate(Large(), batches(1), Classification(), CPU)
