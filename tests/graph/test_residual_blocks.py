import torchvision
from models import TinyResNet, images
from torch import nn

from refiner.graph.residual_blocks import find_blocks
from refiner.graph.skips import Flow
from refiner.graph.tracing import trace


def blocks_of(model: nn.Module) -> list[tuple[str, ...]]:
    flow = Flow(trace(model, images(size=32)))
    return find_blocks(flow, flow.skip_connections(), {str(node.target) for node in flow.convs})


def test_the_convs_of_each_residual_block_and_its_projection() -> None:
    assert blocks_of(TinyResNet()) == [
        ("block1.conv1", "block1.conv2"),
        ("block2.conv1", "block2.conv2", "block2.skip.0"),
    ]


def test_of_the_convs_that_may_change_alone() -> None:
    flow = Flow(trace(TinyResNet(), images(size=32)))
    assert find_blocks(flow, flow.skip_connections(), {"stem", "block2.conv2"}) == [
        ("block2.conv2",)
    ]


def test_a_concat_makes_no_block() -> None:
    assert blocks_of(torchvision.models.squeezenet1_1()) == []
