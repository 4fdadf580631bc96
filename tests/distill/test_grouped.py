import pytest
import torch
from models import images
from torch import nn

from refiner.core.errors import TrainingError
from refiner.core.progress import Silent
from refiner.distill.distillation import DistillConfig, fit_candidates
from refiner.distill.grouped import GroupedFit, GroupedSums
from refiner.graph.conv_spec import conv_spec
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import Classification
from refiner.training.usage import Usage

DEVICES = Devices.choose("cpu", "no")


def fitted(last: nn.Conv2d, teacher: nn.Module, *, centred: bool = False) -> GroupedFit:
    sums = GroupedSums("conv", conv_spec(last), seed=0)
    sums.want(2000, 2)
    fit = GroupedFit(last, last, sums, centred=centred)
    with torch.no_grad():
        for seed in range(3):
            x = images(count=16, channels=4, seed=seed) + 1
            (sums.add_held_out if seed == 1 else sums.add)(x, teacher(x))
    fit.solve(DEVICES)
    return fit


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_the_weights_of_a_grouped_conv_are_found(groups: int, bias: bool) -> None:
    torch.manual_seed(0)
    teacher = nn.Conv2d(4, 8, 3, padding=1, groups=groups, bias=bias)
    conv = nn.Conv2d(4, 8, 3, padding=1, groups=groups, bias=bias)
    fit = fitted(conv, teacher)
    assert torch.allclose(conv.weight, teacher.weight, atol=1e-3)
    assert not bias or torch.allclose(conv.bias, teacher.bias, atol=1e-3)
    assert fit.error < 1e-6
    assert not fit.parameters()


def test_a_smaller_kernel_is_the_best_of_its_size() -> None:
    """A step along any weight makes the error on all rows larger."""
    torch.manual_seed(0)
    teacher, conv = (nn.Conv2d(4, 4, k, padding=k // 2, groups=4, bias=False) for k in (5, 3))
    fit = fitted(conv, teacher)
    assert 0.05 < fit.fit_error < fit.error < 1
    x = torch.cat([images(count=16, channels=4, seed=seed) + 1 for seed in range(3)])
    with torch.no_grad():
        best = (conv(x) - teacher(x)).square().mean()
        for step in (0.05, -0.05):
            conv.weight[1, 0, 0, 2] += step
            assert (conv(x) - teacher(x)).square().mean() > best
            conv.weight[1, 0, 0, 2] -= step


def test_means_are_free_before_a_norm() -> None:
    torch.manual_seed(0)
    teacher = nn.Conv2d(4, 4, 3, groups=4, padding=1)
    with torch.no_grad():
        teacher.bias.fill_(5.0)
    conv = nn.Conv2d(4, 4, 3, groups=4, padding=1, bias=False)
    assert fitted(conv, teacher, centred=True).error < 1e-6
    assert torch.allclose(conv.weight, teacher.weight, atol=1e-3)


def test_inputs_that_are_not_finite_are_refused() -> None:
    conv = nn.Conv2d(4, 4, 3, groups=4, padding=1)
    with pytest.raises(TrainingError, match="not finite"):
        fitted(conv, lambda x: x * float("nan"))


def test_a_smaller_depthwise_conv_needs_no_steps() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False), nn.BatchNorm2d(8)
    ).eval()
    space = search_space(model, images(), candidates=("conv3x3",))
    supernet = Supernet(model, space)
    loader = [(images(count=32, seed=seed), torch.zeros(32)) for seed in range(2)]

    class Counted(Silent):
        steps = 0

        def begin(self, name, total, done=0):
            self.steps = total

    progress = Counted()
    found = fit_candidates(
        supernet, loader, Classification(), devices=DEVICES, config=DistillConfig(), seed=0,
        progress=progress, usage=Usage(),
    )  # fmt: skip
    (errors,) = found.errors.values()
    assert progress.steps == 1  # of sums, and none of Adam
    assert 0 < errors["conv3x3"] < 1
