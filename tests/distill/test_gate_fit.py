import copy

import pytest
import torch
from models import images
from torch import nn

from refiner.distill.distillation import DistillConfig, distill
from refiner.distill.front_to_back import FrontToBack
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import Classification, make_task

DEVICES = Devices.choose("cpu", "no")
BATCHES = [(images(count=80, seed=i), torch.zeros(80, dtype=torch.long)) for i in range(10)]


class Gated(nn.Module):
    """An inverted residual with a gate, whose channels have means far from zero."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.widen, self.project = nn.Conv2d(4, 16, 3, padding=1), nn.Conv2d(16, 4, 1)
        self.reduce, self.expand = nn.Conv2d(16, 4, 1, bias=bias), nn.Conv2d(4, 16, 1)
        nn.init.constant_(self.widen.bias, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.widen(x).relu()
        y = y * self.gate(y.mean((2, 3), keepdim=True))
        return (x + self.project(y)).mean((2, 3))

    def gate(self, means: torch.Tensor) -> torch.Tensor:
        return self.expand(self.reduce(means).tanh()).sigmoid()


class LinearGated(Gated):
    """The same with linear layers."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Linear(16, 4, bias=bias), nn.Linear(4, 16)

    def gate(self, means: torch.Tensor) -> torch.Tensor:
        return super().gate(means.flatten(1))[:, :, None, None]


def made(bias: bool = True, *names: str, kind: type[Gated] = Gated) -> tuple[nn.Module, Supernet]:
    torch.manual_seed(0)
    model = kind(bias).eval()
    space = search_space(
        model, BATCHES[0][0], granularity="group", candidates=names or ["keep0.5", "keep0.25"]
    )
    assert [slot.is_group for slot in space.slots] == [True]
    return model, Supernet(model, space)


def mean_of(module: nn.Module, run: nn.Module) -> torch.Tensor:
    """Return the mean of what a module gives in a run, by channel."""
    seen: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda _m, _i, y: seen.append(y))
    with torch.no_grad():
        for x, _ in BATCHES[2:6]:
            run(x)
    handle.remove()
    found = torch.cat(seen)
    return found.mean([d for d in range(found.dim()) if d != 1])


@pytest.mark.parametrize("kind", [Gated, LinearGated])
def test_the_bias_makes_up_for_the_mean_of_the_channels_that_go(kind: type[Gated]) -> None:
    model, net = made(kind=kind)
    wanted = mean_of(model.reduce, model)
    config = DistillConfig(steps=0, solve_batches=10)
    distill(net, BATCHES, make_task("classification"), devices=DEVICES, config=config)
    for k in (1, 2):
        net.select((k,))
        reduce = net.mixed("reduce").operations[k]
        torch.testing.assert_close(mean_of(reduce, net), wanted, atol=0.01, rtol=0)
        # The kept inputs have the weights that they had.
        rows = reduce.weight.flatten(1).T
        assert all(bool((row == model.reduce.weight.flatten(1).T).all(1).any()) for row in rows)
    assert torch.equal(net.mixed("reduce").operations[0].bias, model.reduce.bias)


def test_a_gate_without_a_bias_stays_as_it_is() -> None:
    _model, net = made(False)
    config = DistillConfig(steps=0, solve_batches=4)
    distill(net, BATCHES, make_task("classification"), devices=DEVICES, config=config)
    assert net.mixed("reduce").operations[1].bias is None


def test_the_refit_fits_the_convs_of_a_gate() -> None:
    model, net = made(True, "keep0.75")
    network = rewrite(model, net.space.architecture([1])).eval()
    spoilt = copy.deepcopy(network)
    with torch.no_grad():
        spoilt.reduce.weight += 0.3 * torch.randn_like(spoilt.reduce.weight)
    x = images(count=64, seed=20)

    def distance(other: nn.Module) -> float:
        with torch.no_grad():
            return float((other(x) - model(x)).square().mean())

    before = distance(spoilt)
    fit = FrontToBack(model, net.space, BATCHES, Classification(), devices=DEVICES)
    errors = fit.fit(spoilt)
    assert set(errors) == {"widen", "reduce", "expand", "project"}
    assert errors["reduce"][1] < 0.2 * errors["reduce"][0]
    assert distance(spoilt) < 0.1 * before
