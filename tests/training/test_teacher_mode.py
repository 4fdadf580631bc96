"""A teacher beside a network in training: decoded outputs, dropout, norms, auxiliary heads."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from refiner.core.errors import ConfigError
from refiner.core.surgery import copied
from refiner.training.task import Classification, Regression
from refiner.training.teacher import WithTeacher
from refiner.training.teacher_mode import TeacherMode

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class DropPath(nn.Module):
    """Drops a whole sample, as timm's does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        return x * x.new_empty(len(x), 1).bernoulli_(0.5).div_(0.5)


class Head(nn.Module):
    """Gives logits in train mode; probabilities, or decoded boxes, in eval mode."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.fc = kind, nn.Linear(8, 4)

    def forward(self, x: torch.Tensor):
        y = self.fc(x)
        if self.kind == "aux" and self.training:
            return y, 2 * y
        if self.training or self.kind in ("plain", "aux"):
            return y
        return y.softmax(1) if self.kind == "softmax" else torch.cat([y, y], 1)


class Net(nn.Module):
    def __init__(self, kind: str, *, drop: bool = False) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.drop, self.path, self.head = drop, DropPath() if drop else nn.Identity(), Head(kind)

    def forward(self, x: torch.Tensor):
        x = self.norm(self.conv(x)).relu().mean((2, 3))
        x = F.dropout(x, 0.5, training=self.training and self.drop)
        return self.head(self.path(x))


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("kind", ["plain", "softmax", "decoded", "aux"])
def test_the_teacher_gives_what_the_network_in_training_gives(kind: str, drop: bool) -> None:
    teacher = Net(kind, drop=drop)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    raw = teacher.eval().head.fc(teacher.norm(teacher.conv(X)).relu().mean((2, 3)))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    mode = TeacherMode(teacher, lambda: teacher(X))
    with torch.no_grad(), mode.on():
        got = teacher(X)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.allclose(got[0] if isinstance(got, tuple) else got, raw, atol=1e-6)
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert not any(module.training for module in teacher.modules())
    assert bool(mode.training) == (kind in ("softmax", "decoded"))
    assert not any(isinstance(m, nn.BatchNorm2d | DropPath) for m in mode.training)


@pytest.mark.parametrize("kind", ["softmax", "decoded"])
def test_a_network_that_equals_its_teacher_has_no_divergence(kind: str) -> None:
    net = Net(kind).train()
    net.norm.eval()
    batch = X, torch.randn(4, 4)
    own = Regression().loss(net, batch)
    assert torch.allclose(WithTeacher(Regression(), copied(net)).loss(net, batch), 0.5 * own)


class Losses(Net):
    """Gives its loss in train mode, as torchvision's detectors do."""

    def forward(self, x: torch.Tensor):
        y = super().forward(x)
        return {"loss": y.square().mean()} if self.training else y


class Task:
    metric = "score"

    def loss(self, model: nn.Module, batch) -> torch.Tensor:
        return model(batch)["loss"]


def test_losses_tell_nothing_of_outputs_and_are_refused_with_the_next_step() -> None:
    net = Losses("plain")
    with pytest.raises(
        ConfigError, match=r"where the network in training gives a number.*weight 0"
    ):
        WithTeacher(Task(), copied(net)).loss(net.train(), X)


class Counting(nn.Module):
    """Keeps statistics of its own in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.fc = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += 1
        return self.fc(x.mean((2, 3)))


def test_statistics_of_any_module_of_the_teacher_stay() -> None:
    net, teacher = Counting(), Counting()
    WithTeacher(Classification(), teacher).loss(net, (X, torch.tensor([0, 1, 0, 1])))
    assert net.seen == 1
    assert teacher.seen == 0
