import math

import pytest
import torch
from models import TinyResNet, batches, images
from torch import nn

from refiner.core.errors import ConfigError, DataError
from refiner.core.surgery import copied
from refiner.training.devices import Devices
from refiner.training.loop import TrainConfig, train
from refiner.training.task import Classification, Regression, make_task, softened_divergence
from refiner.training.teacher import WithTeacher, squared_error, with_teacher


def test_the_divergence_of_two_classes_by_hand() -> None:
    ours, theirs = torch.tensor([[0.0, 4.0]]), torch.tensor([[4.0, 0.0]])
    p = 1 / (1 + math.exp(-1))  # softened by 4
    expected = 16 * (p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p))
    assert float(softened_divergence(ours, theirs)) == pytest.approx(expected, rel=1e-5)
    assert float(softened_divergence(theirs, theirs)) == 0.0
    assert float(squared_error(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0]))) == 1.0
    assert float(squared_error(torch.tensor([3.0]), torch.tensor([2.0]))) == pytest.approx(250)


def test_the_gradient_is_that_of_a_cross_entropy_for_soft_targets_in_the_limit() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = (0.01 * torch.randn(4, 5, generator=generator)).requires_grad_()
    theirs = 0.01 * torch.randn(4, 5, generator=generator)
    (gradient,) = torch.autograd.grad(softened_divergence(ours, theirs), ours)
    # Hinton et al., section 2.1: with small logits of mean zero, (z - v) / classes.
    ours_c, theirs_c = (x - x.mean(1, keepdim=True) for x in (ours.detach(), theirs))
    assert torch.allclose(gradient, (ours_c - theirs_c) / 5 / 4, atol=1e-5)


@pytest.mark.parametrize("task", [Classification(), Regression()])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_network_that_is_its_own_teacher_has_its_share_of_the_loss(task, weight) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    target = torch.arange(4) if isinstance(task, Classification) else torch.randn(4, 4)
    batch = images(count=4), target
    own = task.loss(model, batch)
    both = WithTeacher(task, copied(model), weight=weight).loss(model, batch)
    assert torch.allclose(both, (1 - weight) * own)
    assert not model._forward_hooks


def test_the_teacher_is_followed_and_stays_as_it_is() -> None:
    data, teacher = batches(count=4), TinyResNet()
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    student = TinyResNet()
    task = WithTeacher(make_task("classification"), teacher, weight=1.0)
    far = float(task.loss(student.eval(), data[0]).detach())
    train(
        student, data, data, task,
        devices=Devices.choose("cpu", "no"), config=TrainConfig(epochs=15, lr_max=0.05),
    )  # fmt: skip
    assert float(task.loss(student.eval(), data[0])) < 0.5 * far
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())


@pytest.mark.parametrize("name", ["classification", "segmentation", "regression"])
def test_a_teacher_alone_needs_no_labels(name: str) -> None:
    network, teacher = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
    task = WithTeacher(make_task(name), teacher, weight=1.0)
    x = images(count=4)
    with_labels = task.loss(network, (x, torch.full((4,), -7)))  # never looked at
    for batch in (x, [x], {"image": x}):
        assert torch.equal(task.loss(network, batch), with_labels)
    with pytest.raises(DataError, match="cannot find the inputs and the target"):
        WithTeacher(make_task(name), teacher, weight=0.9).loss(network, x)


def test_a_task_of_ones_own_computes_its_loss_beside_the_teacher() -> None:
    class Own:
        metric = "own"

        def loss(self, model, batch):
            return model(batch["x"]).sum()

    task = WithTeacher(Own(), nn.Linear(3, 2), weight=1.0)
    batch = {"x": torch.ones(1, 3), "extra": torch.ones(1)}
    assert task.loss(nn.Linear(3, 2), batch).requires_grad


def test_another_shape_of_output_is_refused() -> None:
    task = WithTeacher(make_task("classification"), nn.Sequential(nn.Flatten(), nn.LazyLinear(7)))
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(ConfigError, match="cannot be compared. Train without the teacher"):
        task.loss(model, (images(count=4), torch.arange(4)))
    with pytest.raises(ConfigError, match="weight is 2"):
        WithTeacher(make_task("classification"), model, weight=2)


class BackDoor(Classification):
    """Never calls the model itself."""

    def loss(self, model: nn.Module, batch) -> torch.Tensor:
        return super().loss(model.forward, batch)


def test_a_task_that_does_not_call_the_network_is_refused() -> None:
    model = nn.Linear(3, 4)
    batch = torch.randn(2, 3), torch.zeros(2, dtype=torch.long)
    with pytest.raises(ConfigError, match="does not call the network itself"):
        WithTeacher(BackDoor(), model).loss(model, batch)


def test_with_teacher_copies_the_teacher_and_a_weight_of_zero_needs_none() -> None:
    model, task, cpu = nn.Linear(3, 4), Classification(), torch.device("cpu")
    assert with_teacher(task, model, 0.0, cpu) is task
    wrapped = with_teacher(task, model, 0.25, cpu)
    assert isinstance(wrapped, WithTeacher)
    assert wrapped.weight == 0.25
    assert wrapped.teacher is not model
    assert torch.equal(wrapped.teacher.weight, model.weight)
    assert not list(wrapped.parameters()), "the teacher is not trained"


class Scaled(nn.Module):
    """A linear layer whose output a keyword multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor, *, factor: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * factor.mean()


@pytest.mark.parametrize(
    ("task", "divergence"),
    [(Classification(), softened_divergence), (Regression(), squared_error)],
    ids=["logits", "numbers"],
)
def test_the_divergence_is_that_of_the_task(task, divergence) -> None:
    student, teacher = Scaled(), Scaled()
    x, factor = torch.randn(4, 3), torch.full((4,), 3.0)
    target = torch.arange(4) if isinstance(task, Classification) else torch.randn(4, 4)
    batch = {"x": x, "factor": factor, "label": target}
    expected = divergence(student(x, factor=factor), teacher(x, factor=factor).detach())
    whole = WithTeacher(task, teacher, weight=1.0).loss(student, batch)
    assert torch.allclose(whole, expected)
    part = WithTeacher(task, teacher, weight=0.25).loss(student, batch)
    assert torch.allclose(part, 0.75 * task.loss(student, batch) + 0.25 * expected)


def test_the_teacher_lies_on_the_device_that_is_named() -> None:
    model = nn.Linear(3, 4)
    wrapped = with_teacher(Classification(), model, 0.5, torch.device("meta"))
    assert isinstance(wrapped, WithTeacher)
    assert wrapped.teacher.weight.is_meta
    assert not model.weight.is_meta
