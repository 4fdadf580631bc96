import torch
from models import TinyResNet, images
from torch import nn

from refiner.graph.skips import Flow
from refiner.graph.tracing import trace


def edges(model: nn.Module, x: torch.Tensor) -> list[tuple[str, ...]]:
    return [edge.convs for edge, _ in Flow(trace(model, x)).skip_connections()]


def test_the_identity_and_the_projection_of_a_residual_net() -> None:
    assert edges(TinyResNet(), images()) == [(), ("block2.skip.0",)]


def test_two_equal_branches_are_no_skip() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            return self.a(x) + self.b(x)

    assert edges(Branches(), images()) == []


def test_work_counts_the_convs_of_the_longest_path_and_the_largest_kernel() -> None:
    flow = Flow(trace(TinyResNet(), images()))
    first, last = flow.nodes[0], flow.nodes[-1]
    assert flow.work(first, flow.nodes[3])[flow.nodes[3]] == (1, 9)
    assert flow.work(first, last)[last] == (5, 9)
    assert flow.work(last, last) == {last: (0, 0)}
