import pytest
import torch
from models import images
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from refiner.graph.recomputed import mark_recomputed
from refiner.graph.tracing import trace
from refiner.space.search_space import search_space


class Checkpointed(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)) for _ in range(3))
        )

    def forward(self, x):
        x = x if self.kind == "images" else self.stem(x)
        if self.kind == "sequential":
            return checkpoint_sequential(self.blocks, 2, x, use_reentrant=True)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.kind != "new")
        return x


@pytest.mark.parametrize("kind", ["new", "reentrant", "sequential"])
def test_checkpointed_convs_are_slots(kind: str) -> None:
    model = Checkpointed(kind)
    model.stem.weight.grad = torch.ones_like(model.stem.weight)
    space = search_space(model, images())
    assert [slot.name for slot in space.slots] == ["blocks.0.0", "blocks.1.0", "blocks.2.0"]
    assert torch.equal(model.stem.weight.grad, torch.ones_like(model.stem.weight))
    assert model.blocks[0][0].weight.grad is None
    assert model.blocks[0][1].num_batches_tracked == 0


class Detached(Checkpointed):
    def forward(self, x):
        x = self.stem(x)
        with torch.no_grad():
            x = self.blocks[0](x)
        return self.blocks[2](self.blocks[1](x))


def test_a_conv_without_gradients_and_without_a_second_run_stays_frozen() -> None:
    space = search_space(Detached("none"), images())
    reasons = {frozen.name: frozen.reason for frozen in space.frozen}
    assert reasons["blocks.0.0"] == "called with gradients off"
    assert [slot.name for slot in space.slots] == ["blocks.1.0", "blocks.2.0"]


def test_a_pass_that_fails_backward_marks_nothing() -> None:
    class NoOutput(Detached):
        def forward(self, x):
            super().forward(x)
            return {}

    work = NoOutput("none")
    graph = trace(work, images()).meta["train_graph"]
    mark_recomputed(graph, work, images())
    assert {n.meta["learns"] for n in graph.nodes if str(n.target) == "blocks.0.0"} == {False}
