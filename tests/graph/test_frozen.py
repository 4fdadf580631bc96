import torch
from models import TinyResNet, images
from torch import nn

from refiner.graph.frozen import frozen_reasons
from refiner.graph.skips import Flow
from refiner.graph.tracing import trace


def reasons(model: nn.Module) -> dict[str, str]:
    flow = Flow(trace(model, images()))
    return frozen_reasons(flow, flow.skip_connections(), "conv")


def test_what_reads_the_input_and_projections_have_their_reasons() -> None:
    found = reasons(TinyResNet())
    assert found["stem"] == "stem: reads the model's input"
    assert any(reason.startswith("projection on the skip connection") for reason in found.values())


def test_shared_weights_and_hooks_keep_a_conv() -> None:
    model = TinyResNet()
    model.block2.conv2.register_forward_hook(lambda *_: None)
    found = reasons(model)
    assert found["block2.conv2"] == "has hooks, which a replacement would lose"


def test_frozen_parameters_are_named() -> None:
    model = TinyResNet()
    model.block1.conv1.requires_grad_(False)
    with torch.no_grad():
        assert reasons(model)["block1.conv1"] == "its parameters take no gradient"
