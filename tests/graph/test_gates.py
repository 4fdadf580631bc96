import timm
import torch
from models import images
from torch import nn

from refiner.graph.channel_groups import find_channel_groups
from refiner.graph.gates import Gate
from refiner.graph.skips import Flow
from refiner.graph.tracing import trace


class Gated(nn.Module):
    """Two convs; subclasses say what lies between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3)
        self.reduce, self.expand = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu()).sigmoid()

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.between(self.first(x))).mean((2, 3))


def gates_of(model: nn.Module, frozen: str = "") -> tuple[Gate, ...] | None:
    """Return the gates between the two convs, None where they are no group."""
    traced = trace(model, images(size=8))
    flow, training = Flow(traced), Flow(traced, traced.meta["train_graph"])
    names = {str(node.target) for node in flow.convs} - {frozen}
    for group in find_channel_groups(flow, training, names):
        if group.convs == ("first", "second"):
            return group.stretches[0].gates
    return None


class Expanded(Gated):
    """As the gates of the first SE networks, but of convs."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.reduce = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1, bias=False)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pool(x).view(len(x), 8).view(len(x), 8, 1, 1)
        return self.expand(self.reduce(y).relu()).sigmoid().expand_as(x)


class InPlace(Gated):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(self.gate(x))


class Normed(Gated):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.expand(self.norm(self.reduce(x.mean((2, 3), keepdim=True))))


class Twice(Gated):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        x = x * (x + 3).clamp(0, 6) / 6
        return super().between(x) * 2


def test_gates_and_their_numbers() -> None:
    convs = Gate(reduce="reduce", expand="expand", parameters=40, other_parameters=2, macs=32)
    assert gates_of(Gated()) == (convs,)
    assert gates_of(InPlace()) == (convs,)
    assert gates_of(Normed()) == (convs,)
    assert gates_of(Twice()) == (convs,)  # a swish that is written out has no convs
    no_bias = Gate(reduce="reduce", expand="expand", parameters=40, other_parameters=0, macs=32)
    assert gates_of(Expanded()) == (no_bias,)
    assert convs.with_channels(3, 8) == Gate(
        reduce="reduce", expand="expand", parameters=15, other_parameters=2, macs=12
    )


class Linears(Gated):
    """Linear layers in place of the convs."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Linear(8, 2), nn.Linear(2, 8)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.expand(self.reduce(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]


class InOneModule(Linears):
    """The same in a module of their own, which holds no conv."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 8))

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.mean((2, 3), keepdim=True)).sigmoid()[:, :, None, None]


class Given(Gated):
    """The numbers come from elsewhere: what the model reads in the mean, in place of a time."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 8)

    def meet(self, x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return x + numbers[:, :, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.meet(self.first(x), self.embed(x.mean((2, 3))).tanh())
        return self.second(y).mean((2, 3))


class Constant(Given):
    """A time that is a plain number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time = torch.full((len(x), 3), 0.5, device=x.device)
        return self.second(self.meet(self.first(x), self.embed(time))).mean((2, 3))


class Scaled(Given):
    def meet(self, x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return numbers[:, :, None, None] * x


def test_gates_of_linear_layers() -> None:
    numbers = {"parameters": 40, "other_parameters": 2, "macs": 32}
    assert gates_of(Linears()) == (Gate(reduce="reduce", expand="expand", **numbers),)
    assert gates_of(InOneModule()) == (Gate(reduce="layers.1", expand="layers.3", **numbers),)


def test_numbers_from_elsewhere() -> None:
    one = Gate(reduce=None, expand="embed", parameters=32, other_parameters=0, macs=24)
    assert gates_of(Given()) == gates_of(Scaled()) == gates_of(Constant()) == (one,)
    assert one.layers == ("embed",)


class OfPositions(Given):
    """A number for each position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x) + self.embed(x)).mean((2, 3))


class CalledAgain(Given):
    """The layer gives numbers for others, too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.embed(x.std((2, 3)))


class Tied(Given):
    """Another layer has the same weight."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(3, 8)
        self.other.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.other(x.std((2, 3)))


class ReadAgain(Given):
    """The numbers are read elsewhere, too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        numbers = self.embed(x.mean((2, 3)))
        return self.second(self.meet(self.first(x), numbers)).mean((2, 3)) + numbers


class LastAxis(Linears):
    """The layers read positions, not channels."""

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.expand(self.reduce(x[..., :8])).sigmoid().mean((2, 3), keepdim=True)


class Adds(Gated):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.gate(x)


class Elsewhere(Gated):
    """What the gate makes is read in another place, too."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.gate(x)
        return x * gate + gate.mean()


class ReadsTwice(Gated):
    """The channels are read in a third place."""

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x) + x.mean()


class More(Gated):
    """The gate has more channels than it weighs."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(2, 16, 1)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return super().gate(x)[:, :8]


class One(Gated):
    """One factor for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(2, 1, 1)


class OneAtTheEnd(One):
    """The same, with nothing after the second conv."""

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.expand(self.reduce(x.mean((2, 3), keepdim=True)))


class Whole(Gated):
    """The first conv reads the whole image, not means."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(8, 2, 8)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.expand(self.reduce(x))


class Padded(Gated):
    """The first conv gives several positions, so its MACs are not as many as its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(8, 2, 1, padding=1), nn.Conv2d(2, 8, 3)


class Everywhere(Gated):
    """The gate has a factor for each position."""

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.expand(self.reduce(x).relu()).sigmoid()


class Deep(Gated):
    """Three convs."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Conv2d(2, 2, 1)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.expand(self.middle(self.reduce(x.mean((2, 3), keepdim=True))))


class Grouped(Gated):
    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(8, 2, 1, groups=2)


def test_what_is_no_gate_ends_a_group() -> None:
    kinds = [
        Adds, Elsewhere, ReadsTwice, More, One, OneAtTheEnd, Whole, Padded, Everywhere, Deep,
        Grouped, LastAxis, CalledAgain, OfPositions, ReadAgain, Tied,
    ]  # fmt: skip
    assert [kind.__name__ for kind in kinds if gates_of(kind()) is not None] == []
    assert gates_of(Gated(), frozen="expand") is None


def test_an_inverted_residual_block_with_a_gate_is_one_group() -> None:
    traced = trace(timm.create_model("semnasnet_050"), torch.zeros(1, 3, 32, 32))
    flow = Flow(traced)
    found = find_channel_groups(flow, None, {str(node.target) for node in flow.convs})
    groups = {group.convs: group for group in found}
    block = "blocks.2.1"
    group = groups[f"{block}.conv_pw", f"{block}.conv_dw", f"{block}.conv_pwl"]
    assert [gate.layers for gate in group.stretches[1].gates] == [
        (f"{block}.se.conv_reduce", f"{block}.se.conv_expand")
    ]
    assert not any("se.conv" in conv for convs in groups for conv in convs)
