import torch
from models import TinyResNet, images
from torch import nn

from refiner.cost.neighbourhood import STUB_CHANNELS, Neighbourhood, neighbourhood
from refiner.graph.skips import Flow
from refiner.graph.slots import Granularity
from refiner.graph.tracing import trace
from refiner.space.search_space import search_space


def neighbourhoods(
    model: nn.Module, granularity: Granularity = "group", count: int = 2
) -> dict[str, Neighbourhood]:
    x = images(count)
    space = search_space(model, x, granularity=granularity)
    traced = trace(model, x)
    flow = Flow(traced)
    return {slot.name: neighbourhood(traced, flow, slot) for slot in space.slots}


def test_a_group_is_cut_out_with_its_add_and_activation() -> None:
    model = TinyResNet()
    near = neighbourhoods(model)["block1"]
    called = [n.target for n in near.network.graph.nodes if n.op == "call_module"]
    assert called == [
        "before_0", "before_1", "block1.conv1", "block1.bn1", "block1.conv2", "block1.bn2", "after",
    ]  # fmt: skip
    functions = [str(n.target) for n in near.network.graph.nodes if n.op == "call_function"]
    assert [name.split(".")[1] for name in functions] == ["relu", "add", "relu"]
    assert [tuple(x.shape) for x in near.example] == [(2, STUB_CHANNELS, 8, 8)] * 2
    assert near.network(*near.example).shape == (2, STUB_CHANNELS, 8, 8)
    assert near.network.get_submodule("block1.conv1") is not model.block1.conv1


def test_it_computes_what_the_block_computes() -> None:
    model = TinyResNet().eval()
    near = neighbourhoods(model)["block2"]
    stubs = dict(near.network.named_children())
    with torch.no_grad():
        inputs = [stubs[f"before_{i}"](x) for i, x in enumerate(near.example)]
        block = model.block2
        branch = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(inputs[0])))))
        expected = stubs["after"](torch.relu(branch + inputs[1]))
        torch.testing.assert_close(near.network(*near.example), expected)


def test_slots_that_look_the_same_have_one_key() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, bias=False),
    )  # fmt: skip
    keys = [near.key for near in neighbourhoods(model, "conv").values()]
    assert keys[0] == keys[1] != keys[2]
    larger = [near.key for near in neighbourhoods(model, "conv", count=3).values()]
    assert not {*keys} & {*larger}


class Written(nn.Module):
    """Reads a parameter of its own after the second conv."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, bias=False)
        self.shift = nn.Parameter(torch.ones(1))
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.relu(self.conv(self.stem(x))) * self.shift * self.scale).flatten(1)


def test_parameters_come_along() -> None:
    (near,) = neighbourhoods(Written(), "conv").values()
    assert str(near.network.graph).count("aten.mul") == 2
    assert [tuple(x.shape) for x in near.example] == [(2, STUB_CHANNELS, 6, 6)]
    assert near.network(*near.example).shape == (2, STUB_CHANNELS, 4, 4)


class Chunks(nn.Module):
    """Convs that read parts of a list, and whose outputs are put into one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.other = nn.Conv2d(8, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = torch.chunk(self.stem(x), 2, dim=3)
        return torch.stack([self.conv(first), self.other(second)]).sum(0)


def test_slots_that_read_a_list_run() -> None:
    for near in neighbourhoods(Chunks(), "conv").values():
        assert near.network(*near.example).shape[0] == 2


def test_a_slot_that_cannot_run_by_itself_is_timed_alone(monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("shape")

    monkeypatch.setattr("refiner.cost.neighbourhood._cut_out", fails)
    near = neighbourhoods(TinyResNet())["block1"]
    called = [n.target for n in near.network.graph.nodes if n.op == "call_module"]
    assert called == ["block1.conv1", "block1.bn1", "block1.conv2", "block1.bn2"]
    assert near.network(*near.example).shape == near.example[0].shape
