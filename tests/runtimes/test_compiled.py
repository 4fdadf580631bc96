from functools import partial

import pytest
import torch
from models import images
from torch import nn

from refiner.core.errors import ModelError
from refiner.runtimes.compiled import Compiled

CPU = torch.device("cpu")


class Failing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, 7, 1000)


class Wide(nn.Module):
    """Networks of one class and of different widths share the code that is compiled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(4, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).relu()


def test_a_model_that_fails_when_it_is_compiled_is_named() -> None:
    with pytest.raises(ModelError, match=r"torch\.compile cannot hold this model"):
        Compiled(CPU, "no", 1).prepare(Failing(), images())


def test_all_networks_of_a_class_stay_compiled(monkeypatch) -> None:
    """Nor is anything that the caller compiled thrown away."""
    runtime, x = Compiled(CPU, "no", 1), torch.randn(2, 4)
    compiled = 0

    def counting(graph: torch.fx.GraphModule, example: list[torch.Tensor]):
        nonlocal compiled
        compiled += 1
        return graph.forward

    plain = torch.compile
    monkeypatch.setattr(torch, "compile", partial(plain, backend=counting))
    own = torch.compile(Wide(3), dynamic=False)
    with torch.no_grad():
        own(x)
    passes = [runtime.prepare(Wide(width), x) for width in range(10, 22)]
    assert compiled == 13
    with runtime.running():
        for one in passes:
            one()
        own(x)
    assert compiled == 13
