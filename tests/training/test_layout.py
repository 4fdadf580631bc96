"""Images laid out with their channels last, where a model takes them."""

import copy

import pytest
import torch
from models import TinyResNet, batches
from torch import nn
from torch.utils.data import default_collate

import refiner
from refiner.training.devices import Devices
from refiner.training.layout import takes_channels_last, with_inputs_laid_out
from refiner.training.task import Classification, Task

CPU = Devices.choose("cpu")
IMAGES = torch.randn(3, 4, 8, 8)


class Reshaping(TinyResNet):
    """Reads its features by ``view``, as many a written-out network does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block2(self.block1(torch.relu(self.bn(self.stem(x)))))
        return self.fc(x.view(len(x), -1).unflatten(1, (x.shape[1], -1)).mean(2))


class InTraining(Reshaping):
    """Does so in train mode alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if self.training else TinyResNet.forward(self, x)


class Strided(nn.Module):
    """Reads its input as it lies in memory, and fails on no layout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).as_strided((len(x), 4), (144, 1))


class Backwards(torch.autograd.Function):
    """Its backward pass alone reads memory as it lies."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.view(-1).view(gradient.shape)


class InBackward(TinyResNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = Backwards.apply(torch.relu(self.bn(self.stem(x))))
        return self.fc(self.block2(self.block1(x)).mean((2, 3)))


class ByView(Classification):
    """A user's task that reshapes the images."""

    def loss(self, model: nn.Module, batch) -> torch.Tensor:
        return super().loss(model, (batch[0].view(-1).view(batch[0].shape), batch[1]))


def takes(model: nn.Module, x: torch.Tensor, task: Task | None = None) -> bool:
    return takes_channels_last(model, x, task or Classification(), batches(1))


def is_last(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last)


def test_a_usual_model_takes_them_and_stays_as_it_is() -> None:
    model = TinyResNet()
    before = copy.deepcopy(model.state_dict())
    x, loader, state = torch.randn(1, 3, 16, 16), batches(1), torch.get_rng_state()
    assert takes_channels_last(model, x, Classification(), loader)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", [Reshaping, InTraining, InBackward, Strided])
def test_models_that_read_memory_as_it_lies_do_not(kind: type[nn.Module]) -> None:
    assert not takes(kind(), torch.randn(1, 3, 8, 8))


def test_models_without_images_are_left_alone() -> None:
    assert not takes(nn.Linear(3, 2), torch.randn(1, 3))
    assert not takes(nn.Conv3d(1, 1, 1), torch.randn(1, 1, 4, 4, 4))


def test_a_users_task_is_tried_too() -> None:
    assert not takes(TinyResNet(), torch.randn(1, 3, 16, 16), ByView())


def test_inputs_are_laid_out_and_targets_are_not() -> None:
    target = torch.randn(3, 2, 8, 8)
    kinds = [
        (IMAGES, target),
        [IMAGES, target],
        {"image": IMAGES, "mask": target},
        [IMAGES],
        IMAGES,
    ]
    for batch in kinds:
        found = with_inputs_laid_out(batch)
        assert type(found) is type(batch)
        parts = found if isinstance(found, tuple | list) else [found]
        parts = list(found.values()) if isinstance(found, dict) else parts
        assert is_last(parts[0])
        assert torch.equal(parts[0], IMAGES)
        assert all(part is target for part in parts[1:])
    labels = default_collate([0, 1])
    assert with_inputs_laid_out(labels) is labels


def test_batches_follow_the_devices() -> None:
    for model, last in ((TinyResNet(), True), (Reshaping(), False)):
        devices = CPU.suited_to(model, torch.randn(1, 3, 8, 8), Classification(), batches(1))
        ((images, _),) = devices.batches([(IMAGES, torch.zeros(3))])
        assert is_last(images) == last


def test_a_model_that_reshapes_by_view_is_refined() -> None:
    torch.manual_seed(0)
    result = refiner.refine(
        Reshaping(), batches(3), batches(2, seed=1), device="cpu", progress=False,
        search=refiner.SearchConfig(epochs=1, warmup_epochs=0, trials=4, samples=2, top_k=1),
        budget="macs=75%", baselines=False,
    )  # fmt: skip
    assert any(result.architecture.vector)
