import pytest
import torch
from models import TinyResNet, images
from torch import nn

from refiner.core.errors import TrainingError
from refiner.distill.constant_fit import branch_means_to_fit, fit_branch_means
from refiner.distill.distillation import DistillConfig, distill
from refiner.space.candidates import NO_BRANCH
from refiner.space.constants import Constant
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import make_task

DEVICES = Devices.choose("cpu", "no")
BATCHES = [(images(count=n, seed=n), torch.zeros(n, dtype=torch.long)) for n in (16, 9)]


class Unnormed(TinyResNet):
    """The last conv of its first block has no norm."""

    def __init__(self) -> None:
        super().__init__()
        self.block1.bn2 = nn.Identity()


def supernet(model: nn.Module) -> Supernet:
    space = search_space(
        model, BATCHES[0][0], granularity="group", candidates=[NO_BRANCH, "depthwise3x3"]
    )
    return Supernet(model, space)


def constants(net: nn.Module) -> list[torch.Tensor]:
    return [m.value.detach() for m in net.modules() if isinstance(m, Constant)]


@pytest.mark.parametrize("kind", [TinyResNet, Unnormed])
def test_a_constant_is_the_mean_of_what_the_branch_gives(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    net = supernet(model)
    assert all(not value.any() for value in constants(net)), "zero without data"
    config = DistillConfig(steps=2, solve_batches=2)
    errors = distill(net, BATCHES, make_task("classification"), devices=DEVICES, config=config)
    seen: list[list[torch.Tensor]] = [[], []]
    for block, kept in zip((model.block1, model.block2), seen, strict=True):
        block.bn2.register_forward_hook(lambda _m, _i, y, kept=kept: kept.append(y))
    with torch.no_grad():
        for x, _ in BATCHES:
            model(x)
    for value, kept in zip(constants(net), seen, strict=True):
        every = torch.cat(kept)  # batches of other sizes count by their samples
        assert torch.allclose(value.flatten(), every.mean((0, 2, 3)), atol=1e-6)
    assert errors["block1.conv2"][NO_BRANCH] == errors["block2.conv2"][NO_BRANCH] == 1.0
    assert not any(NO_BRANCH in errors[name] for name in ("block1.conv1", "block2.conv1"))
    assert "depthwise3x3" in errors["block1.conv1"]


def test_an_output_that_is_not_finite_is_named() -> None:
    (first, _) = means = branch_means_to_fit(supernet(TinyResNet()))
    for each in means:
        each.listener[1](torch.zeros(1), torch.full((2, len(each.constant.value), 3, 3), 1.0))
    first.listener[1](torch.zeros(1), torch.full((2, 4, 3, 3), float("inf")))
    with pytest.raises(TrainingError, match="the output of block1.bn2 is not finite"):
        fit_branch_means(means, DEVICES)
