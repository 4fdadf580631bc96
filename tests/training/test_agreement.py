import math

import pytest
import torch
from torch import nn

from refiner.core.errors import ConfigError
from refiner.core.surgery import copied
from refiner.training.agreement import MOST_BATCHES, Agreement, compared_by
from refiner.training.task import Classification, Regression, Segmentation, softened_divergence


class Counted(nn.Module):
    """Halves its input, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x / 2


def test_agreement_is_the_divergence_by_hand_and_runs_the_teacher_once_for_an_input() -> None:
    teacher = Counted()
    agreement = Agreement(Regression(), teacher)
    one, two = torch.tensor([[2.0], [-2.0]]), torch.tensor([[4.0], [0.0], [-4.0]])
    networks = [nn.Identity(), nn.Identity()]
    for network in networks:
        sums = sum(agreement.measure(network, (x, torch.zeros_like(x))) for x in (one, two))
        # Teacher: 1, -1, 2, 0, -2. The squared errors equal its squares: 1, 1, 4, 0, 4.
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


def test_a_teacher_agrees_with_itself_whatever_is_written_to() -> None:
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


def test_outputs_that_cannot_be_compared() -> None:
    model = nn.Linear(3, 4)
    batch = torch.randn(2, 3), torch.zeros(2, dtype=torch.long)
    assert Agreement(Classification(), copied(model)).can_compare(model, batch)
    assert not Agreement(BackDoor(), model).can_compare(model, batch)
    endless = nn.Linear(3, 4)
    with torch.no_grad():
        endless.bias[1] = -math.inf  # a class that is masked: its divergence is not a number
    assert not Agreement(Classification(), copied(endless)).can_compare(endless, batch)
    with torch.inference_mode():
        assert Agreement(Classification(), copied(model)).can_compare(
            model, (batch[0] + 1, batch[1])
        )
    with pytest.raises(ConfigError, match="does not call the network itself"):
        Agreement(BackDoor(), model).measure(model, batch)
    with pytest.raises(ConfigError, match="cannot be compared"):
        Agreement(Regression(), nn.Linear(3, 5)).measure(model, batch)


def test_agreement_of_logits_is_the_divergence_of_softened_probabilities() -> None:
    teacher, model = nn.Linear(3, 4), nn.Linear(3, 4)
    x, labels = torch.randn(5, 3), torch.zeros(5, dtype=torch.long)
    agreement = Agreement(Classification(), teacher)
    with torch.no_grad():
        sums = agreement.measure(model, (x, labels))
        expected = float(softened_divergence(model(x), teacher(x)))
    assert agreement.score(sums) == pytest.approx(-expected, rel=1e-5)
    assert float(sums[1]) == 5
    assert agreement.loss(model, (x, labels)) == Classification().loss(model, (x, labels))


class Normalises(Regression):
    """Makes a new tensor for each call."""

    shift = 0.0

    def measure(self, model: nn.Module, batch) -> torch.Tensor:
        model(batch[0] / 2)
        return super().measure(model, (batch[0] * 2 + self.shift, batch[1]))


def test_the_teacher_runs_once_for_a_batch_whatever_tensors_the_task_makes_of_it() -> None:
    teacher, task = Counted(), Normalises()
    agreement = Agreement(task, teacher)
    data = [(torch.randn(3, 1), torch.zeros(3, 1)) for _ in range(2)]
    for _ in range(5):
        for batch in data:
            agreement.measure(nn.Identity(), batch)
    assert teacher.calls == 4
    assert sum(len(kept.targets) for kept in agreement._targets.values()) == 4
    task.shift = 1.0  # another input, in the second call of each batch
    sums = agreement.measure(nn.Identity(), data[0])
    assert teacher.calls == 5
    fresh = Agreement(task, Counted()).measure(nn.Identity(), data[0])
    assert torch.equal(sums, fresh)


def test_what_is_kept_cannot_grow() -> None:
    teacher = Counted()
    agreement = Agreement(Normalises(), teacher)
    data = [(torch.randn(1, 1), torch.zeros(1, 1)) for _ in range(MOST_BATCHES + 10)]
    for _ in range(2):
        for batch in data:
            agreement.measure(nn.Identity(), batch)
    assert len(agreement._targets) == MOST_BATCHES
    assert teacher.calls == 2 * (MOST_BATCHES + 2 * 10)


def test_large_outputs_are_kept_up_to_a_memory(monkeypatch) -> None:
    monkeypatch.setattr("refiner.training.agreement.MOST_BYTES", 8)
    teacher = Counted()
    agreement = Agreement(Normalises(), teacher)
    data = [(torch.randn(1, 1), torch.zeros(1, 1)) for _ in range(4)]
    for _ in range(2):
        for batch in data:
            agreement.measure(nn.Identity(), batch)
    assert len(agreement._targets) < 4
    agreement.forget()
    agreement.measure(nn.Identity(), data[0])
    assert len(agreement._targets) == 1


def test_an_input_that_was_written_to_since_is_another_one() -> None:
    teacher, x = Counted(), torch.ones(2, 1)
    agreement = Agreement(Regression(), teacher)
    agreement.measure(nn.Identity(), (x, x))
    x.mul_(0).add_(1)  # written to, with the values that it had
    agreement.measure(nn.Identity(), (x, x))
    agreement.measure(nn.Identity(), (x, x))
    assert teacher.calls == 2


def test_a_trial_comparison_keeps_no_output_and_records_no_gradient() -> None:
    class Noted(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            recorded.append(torch.is_grad_enabled())
            return super().forward(x)

    recorded: list[bool] = []
    model = Noted(3, 4)
    agreement = Agreement(Classification(), copied(model).train())
    assert agreement.can_compare(model, (torch.randn(2, 3), torch.zeros(2, dtype=torch.long)))
    assert not agreement._targets
    assert recorded == [False] * 2
    assert not agreement.teacher.training


def test_the_way_of_comparing_is_known_of_a_task() -> None:
    class Own(Regression):
        def divergence(self, output, target):
            return (output - target).abs().mean()

    class Named(Classification):
        metric = "top-1"

    found = [compared_by(task) for task in (Named(), Segmentation(), Own(), Regression())]
    assert found == ["logits", "logits", "own", "error"]
