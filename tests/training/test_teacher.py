import math

import pytest
import torch
from models import TinyResNet, batches, images
from torch import nn

from refiner.core.errors import ConfigError
from refiner.core.surgery import copied
from refiner.training.devices import Devices
from refiner.training.loop import TrainConfig, train
from refiner.training.task import Classification, Regression, make_task, softened_divergence
from refiner.training.teacher import Agreement, WithTeacher, squared_error


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


def test_another_shape_of_output_is_refused() -> None:
    task = WithTeacher(make_task("classification"), nn.Sequential(nn.Flatten(), nn.LazyLinear(7)))
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(ConfigError, match="another shape"):
        task.loss(model, (images(count=4), torch.arange(4)))
    with pytest.raises(ConfigError, match="weight is 2"):
        WithTeacher(make_task("classification"), model, weight=2)


class Counted(nn.Module):
    """Halves its input, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x / 2


def test_agreement_is_the_divergence_by_hand_and_asks_the_teacher_once_for_an_input() -> None:
    teacher = Counted()
    agreement = Agreement(Regression(), teacher)
    one, two = torch.tensor([[2.0], [-2.0]]), torch.tensor([[4.0], [0.0], [-4.0]])
    networks = [nn.Identity(), nn.Identity()]
    for network in networks:
        sums = sum(agreement.measure(network, (x, torch.zeros_like(x))) for x in (one, two))
        # Teacher: 1, -1, 2, 0, -2; squared errors 1, 1, 4, 0, 4, and the teacher's squares are the same.
        assert agreement.score(sums) == pytest.approx(-1.0)
    assert teacher.calls == 2
    one.mul_(2)
    agreement.measure(networks[0], (one, torch.zeros_like(one)))
    assert teacher.calls == 3, "an input that was written to is another one"
    agreement.forget()
    agreement.measure(networks[0], (one, torch.zeros_like(one)))
    assert teacher.calls == 4
    assert agreement.score(agreement.measure(Counted(), (two, torch.zeros_like(two)))) == 0.0


@pytest.mark.parametrize("task", [Classification(), Regression()], ids=["divergence", "error"])
def test_agreement_does_not_depend_on_how_the_batches_are_cut(task) -> None:
    generator = torch.Generator().manual_seed(0)
    teacher, model = nn.Linear(3, 4), nn.Linear(3, 4)
    x = torch.randn(65, 3, generator=generator)
    y = (
        torch.zeros(65, dtype=torch.long)
        if isinstance(task, Classification)
        else torch.zeros(65, 4)
    )
    agreement = Agreement(task, teacher)
    with torch.no_grad():
        whole = agreement.score(agreement.measure(model, (x, y)))
        parts = sum(
            agreement.measure(model, (x[a:b], y[a:b])) for a, b in ((0, 20), (20, 64), (64, 65))
        )
    assert agreement.score(parts) == pytest.approx(whole, rel=1e-4)
    assert whole < -0.01
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


class Heads(nn.Module):
    """Gives one head or the other, and writes to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(3, 4), nn.Linear(3, 4)])

    def forward(self, x: torch.Tensor, head: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.heads[head](x.sub_(1).div_(2))
        return output, output.mean()  # the latter is a loss of the model's own


class BothHeads(Classification):
    """Calls the model twice for each batch, and writes to what it gives."""

    def measure(self, model: nn.Module, batch) -> torch.Tensor:
        first, second = (model(batch[0].clone(), head=i)[0] for i in (0, 1))
        first.sigmoid_(), second.squeeze_(0)
        return torch.ones(2)


def test_a_teacher_is_alike_to_itself_whatever_is_written_to() -> None:
    model, batch = Heads(), (torch.randn(5, 3), torch.zeros(5, dtype=torch.long))
    for task in (BothHeads(), Classification()):
        agreement = Agreement(task, copied(model))
        for _ in range(2):
            with torch.no_grad():
                sums = agreement.measure(model, (batch[0].clone(), batch[1]))
            assert agreement.score(sums) == pytest.approx(0.0, abs=1e-6)


class BackDoor(Classification):
    """Never calls the model itself."""

    def measure(self, model: nn.Module, batch) -> torch.Tensor:
        return super().measure(model.forward, batch)

    def loss(self, model: nn.Module, batch) -> torch.Tensor:
        return super().loss(model.forward, batch)


def test_a_task_that_does_not_call_the_network_shows_nothing_to_compare() -> None:
    model = nn.Linear(3, 4)
    batch = torch.randn(2, 3), torch.zeros(2, dtype=torch.long)
    assert Agreement(Classification(), copied(model)).tells(model, batch)
    assert not Agreement(BackDoor(), model).tells(model, batch)
    endless = nn.Linear(3, 4)
    with torch.no_grad():
        endless.bias[1] = -math.inf  # a class that is masked: its divergence is no number
    assert not Agreement(Classification(), copied(endless)).tells(endless, batch)
    with torch.inference_mode():
        assert Agreement(Classification(), copied(model)).tells(model, (batch[0] + 1, batch[1]))
    with pytest.raises(ConfigError, match="does not call the network itself"):
        WithTeacher(BackDoor(), model).loss(model, batch)
