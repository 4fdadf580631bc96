import pytest
import torch
from models import TinyResNet, images
from torch import nn

import refiner
from refiner.cost.budget import parse_budgets
from refiner.cost.budget_check import not_covered, over_budget
from refiner.cost.costs import Cost, measure_cost
from refiner.cost.latency import Latency

BEFORE = Cost(macs=1000, params=400)


def over(budget, *, macs=600, params=200, ms=None):
    latency = None if ms is None else (Latency(median=10.0, noise=0.1), ms)
    after = Cost(macs=macs, params=params)
    return over_budget(parse_budgets(budget), BEFORE, after, latency)


@pytest.mark.parametrize("budget", ["macs=60%", "macs=600", "params=50%", "params=200"])
def test_at_the_budget_is_within_it_and_one_more_is_over(budget) -> None:
    assert over(budget) == []
    [line] = over(budget, macs=601, params=201)
    assert line.startswith("over the budget: the refined network has ")
    assert f"{budget} allows " in line


def test_every_budget_has_its_line() -> None:
    lines = over(
        "macs=60%,params=50%,latency=80%", macs=700, params=300, ms=Latency(median=9.0, noise=0.2)
    )
    assert lines == [
        "over the budget: the refined network has 700 MACs (70.0 % of the original's), as "
        "measured; macs=60% allows 600 MACs",
        "over the budget: the refined network has 300 parameters (75.0 % of the original's), as "
        "measured; params=50% allows 200 parameters",
        "over the budget: the refined network has 9.00 ± 0.20 ms, as measured; latency=80% allows "
        "8.00 ms",
    ]


def test_milliseconds_within_the_noise_are_said_to_be() -> None:
    assert over("latency=80%", ms=Latency(median=8.0, noise=0.1)) == []
    [line] = over("latency=8ms", ms=Latency(median=8.1, noise=0.2))
    assert line.endswith("allows 8.00 ms, which lies within the noise")
    assert over("latency=80%") == []  # nothing was timed


class Spectral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = TinyResNet()

    def forward(self, x):
        return self.net(torch.fft.ifft2(torch.fft.fft2(x)).real)


def test_a_budget_of_macs_names_what_nobody_counts() -> None:
    model, x = Spectral(), images()
    space, cost = refiner.search_space(model, x), measure_cost(model, x)
    assert not_covered(parse_budgets("params=60%"), cost, space) == []
    [line] = not_covered(parse_budgets("macs=60%"), cost, space)
    assert line.startswith("the budget macs=60% covers what is counted, and nobody counts _fft_")
    plain = refiner.search_space(model.net, x)
    assert not_covered(parse_budgets("macs=60%"), measure_cost(model.net, x), plain) == []
