from collections import OrderedDict

import torch
from models import images
from torch import fx, nn

from refiner.core.layers import is_conv
from refiner.graph.recording import Recorder


def record(model: nn.Module, **inputs) -> tuple[fx.Graph, Recorder]:
    recorder = Recorder(model, lambda m: is_conv(m) or isinstance(m, Makes | Holder), inputs)
    with torch.no_grad(), recorder:
        output = model(**inputs)
    return recorder.finish(output), recorder


class Box:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.size = tensor, tuple(tensor.shape)


class Makes(nn.Module):
    """Gives an object of its own that holds a tensor."""

    def forward(self, x):
        return Box(x * 2)


class Holder(nn.Module):
    """Keeps a tensor that it made, and gives another."""

    def forward(self, x):
        self.kept = x + 1
        return x - 1


def sources(graph: fx.Graph, name: str) -> list[str]:
    node = next(n for n in graph.nodes if n.name == name)
    return sorted(n.name for n in (*node.all_input_nodes, *node.meta["after"]))


def test_what_a_leaf_hides_in_an_object_or_in_itself_is_followed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.makes, self.holder = Makes(), Holder()

        def forward(self, x):
            y = self.holder(self.makes(x).tensor)
            return torch.add(y, self.holder.kept)

    graph, _ = record(Net(), x=images())
    assert sources(graph, "getattr_1") == ["makes"]
    assert sources(graph, "holder") == ["getattr_1"]
    assert "holder" in sources(graph, "add")


def test_a_write_is_seen_by_all_views_of_the_memory() -> None:
    class Net(nn.Module):
        def forward(self, x):
            buffer = torch.zeros(2, 3, 8, 8)
            whole = buffer.view(-1)
            buffer[:, 0] = x[:, 0]
            return whole + 1

    graph, _ = record(Net(), x=images())
    assert "copy_" in sources(graph, "add")


def test_a_view_made_after_a_write_needs_no_second_edge() -> None:
    class Net(nn.Module):
        def forward(self, x):
            return torch.relu_(x * 2).view(-1) + 1

    graph, _ = record(Net(), x=images())
    assert sources(graph, "view") == ["relu_"]
    assert sources(graph, "add") == ["view"]


def test_loops_scripted_functions_and_containers_of_every_kind() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.act = torch.jit.script(nn.Softplus())

        def forward(self, x):
            for _ in range(len(x)):
                x = self.conv(input=x)
            while x.abs().max() > 1:
                x = x / 2
            return OrderedDict(out=self.act(x), more=[x, {"n": x.shape[0]}])

    graph, recorder = record(Net(), x=images())
    assert sum(n.target == "conv" for n in graph.nodes) == 2
    assert "softplus" in {n.name for n in graph.nodes}
    assert len(recorder.constants) == 1  # the structure of the output


def test_parameters_are_known_by_name_also_without_autograd() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)
            self.outside = [torch.ones(3)]

        def forward(self, x):
            return x.mean((2, 3)) * self.inner.weight.data.sum() + self.outside[0]

    graph, recorder = record(Net(), x=images())
    assert [n.target for n in graph.nodes if n.op == "get_attr"] == ["inner.weight", "_constant_0"]
    assert list(recorder.constants) == ["_constant_0"]
