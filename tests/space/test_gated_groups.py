"""Groups with gates, as those of squeeze-and-excitation: their convs are narrowed with the group."""

from collections.abc import Callable

import pytest
import timm
import torch
from models import images, run_seeded
from pruning import assert_pruned_is_blinded, group_space, warmed
from torch import nn

import refiner
from refiner.cost.costs import measure_cost, slot_costs
from refiner.graph.slots import Slot
from refiner.space.architecture import Architecture
from refiner.space.rewriting import rewrite
from refiner.space.search_space import SearchSpace, search_space, space_of
from refiner.space.supernet import Supernet


class Squeeze(nn.Module):
    """A gate of 1x1 convs; as many channels inside as outside, so no shape says which is which."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = (nn.Conv2d(channels, channels, 1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.reduce(x.mean((2, 3), keepdim=True)).relu()
        return x * self.expand(y).sigmoid()


class Expanded(nn.Module):
    """As the gates of the first SE networks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.expand = nn.Conv2d(channels, 3, 1), nn.Conv2d(3, channels, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.reduce(self.pool(x))).relu()
        return x * self.expand(y).sigmoid().expand_as(x)


class Linears(nn.Module):
    """As in many models: two linear layers, in a module that holds no conv."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, 3, bias=False), nn.ReLU(), nn.Linear(3, channels), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.fc(x.mean((2, 3))).view(len(x), x.shape[1], 1, 1).expand_as(x)


def given(channels: int) -> nn.Module:
    """Gives numbers that are added, as diffusion models add what they make of the time."""
    return nn.Linear(3, channels)


class Inverted(nn.Module):
    """A stem and two inverted residual blocks with gates; the second swish is written out."""

    def __init__(self, kind: Callable[[int], nn.Module] = Squeeze) -> None:
        super().__init__()
        self.adds, self.stem = kind is given, nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(self._branch(kind) for _ in range(2))

    def _branch(self, kind: Callable[[int], nn.Module]) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                "widen": nn.Conv2d(8, 24, 1, bias=False), "norm": nn.BatchNorm2d(24),
                "each": nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False),
                "second": nn.BatchNorm2d(24), "gate": kind(24),
                "project": nn.Conv2d(24, 8, 1, bias=False), "last": nn.BatchNorm2d(8),
            }
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        image, x = x, self.stem(x)
        for block in self.blocks:
            y = nn.functional.silu(block["norm"](block["widen"](x)))
            y = block["second"](block["each"](y))
            y, gate = y * torch.sigmoid(y), block["gate"]
            if self.adds:
                y = y + gate(nn.functional.silu(image.mean((2, 3))))[:, :, None, None]
            else:
                y = gate(y)
            x = x + block["last"](block["project"](y))
        return x.mean((2, 3))


@pytest.mark.parametrize("kind", [Squeeze, Expanded])
def test_the_convs_of_a_gate_are_narrowed_with_its_group(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = warmed(Inverted(kind), images(count=3, size=8)), images(count=3, size=8)
    space = assert_pruned_is_blinded(model, x, seed=3)
    first = space.slots[0]
    assert [site.conv for site in first.sites] == [
        f"blocks.0.{name}" for name in ("widen", "each", "project")
    ]
    assert not any(".gate." in site.conv for slot in space.slots for site in slot.sites)
    network = rewrite(model, space.architecture([space.candidates[0].index("keep0.5"), 0]))
    gate = network.blocks[0]["gate"]
    inside = 24 if kind is Squeeze else 3
    assert (gate.reduce.weight.shape[:2], gate.expand.weight.shape[:2]) == (
        (inside, 12),
        (12, inside),
    )
    assert (gate.reduce.in_channels, gate.reduce.out_channels) == (12, inside)
    assert (gate.expand.in_channels, gate.expand.out_channels) == (inside, 12)


@pytest.mark.parametrize("kind", [Linears, given])
def test_linear_layers_are_narrowed_with_the_group(kind: Callable[[int], nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = warmed(Inverted(kind), images(count=3, size=8)), images(count=3, size=8)
    space = assert_pruned_is_blinded(model, x, seed=3)
    assert [len(slot.sites) for slot in space.slots] == [3, 3]
    network = rewrite(model, space.architecture([space.candidates[0].index("keep0.5"), 0]))
    linears = [m for m in network.blocks[0].modules() if isinstance(m, nn.Linear)]
    shapes = [(m.in_features, m.out_features) for m in linears]
    assert shapes == ([(12, 3), (3, 12)] if kind is Linears else [(3, 12)])
    assert [tuple(m.weight.shape[::-1]) for m in linears] == shapes


def every_vector(space: SearchSpace) -> list[tuple[int, ...]]:
    last = max(map(len, space.candidates))
    return [tuple(k % len(names) for names in space.candidates) for k in range(last)]


@pytest.mark.parametrize(
    "make",
    [
        Inverted,
        lambda: Inverted(Linears),
        lambda: Inverted(given),
        lambda: timm.create_model("semnasnet_050"),
    ],
)
def test_every_candidate_equals_the_supernet_and_has_exact_costs(make) -> None:
    torch.manual_seed(0)
    x = images(size=32)
    model = warmed(make(), x).eval()
    names = ["keep0.75", "keep0.5", "keep0.25", "no_branch", "merged3x3", "depthwise3x3"]
    space = search_space(model, x, granularity="group", candidates=names)
    assert sum("no_branch" in each for each in space.candidates) >= 2
    # A merged conv has no place for numbers from elsewhere.
    adds = getattr(model, "adds", False)
    assert any("merged3x3" in each for each in space.candidates) != adds
    before, costs, net = measure_cost(model, x), slot_costs(space), Supernet(model, space)
    for vector in every_vector(space):
        network = rewrite(model, space.architecture(vector)).eval()
        after = measure_cost(network, x)
        chosen = [(row[0], row[k]) for row, k in zip(costs, vector, strict=True)]
        assert after.macs - before.macs == sum(new.macs - old.macs for old, new in chosen)
        assert after.params - before.params == sum(new.params - old.params for old, new in chosen)
        emitted = net.emit(vector).eval()
        network.load_state_dict(emitted.state_dict())
        assert torch.equal(run_seeded(network, x, False), run_seeded(emitted, x, False))


def test_a_pruned_network_is_scripted(tmp_path) -> None:
    model, x = timm.create_model("semnasnet_050").eval(), images(size=32)
    space = group_space(model, x)
    network = rewrite(model, space.architecture([len(names) - 1 for names in space.candidates]))
    assert "script" in refiner.export(network.eval(), tmp_path / "out.ts", x, "torchscript")


def slots_of(space: SearchSpace) -> list[Slot]:
    return [slot for slot in space.slots if slot.is_group]


def test_a_file_keeps_the_gates_and_another_size_has_the_same(tmp_path) -> None:
    model, x = Inverted(), images(size=8)
    space = group_space(model, x)
    space.architecture([1, 2]).save(tmp_path / "a.json")
    loaded = Architecture.load(tmp_path / "a.json")
    assert loaded == space.architecture([1, 2])
    assert loaded.slots[0].sites[1].gates
    sizes = [slot_costs(space_of(loaded, model, images(size=n)))[0] for n in (8, 16)]
    small, large = ([cost.macs - row[0].macs for cost in row] for row in sizes)
    of_gate = -2 * 24 * (24 - 18)  # what keep0.75 saves there, which no size changes
    gone = [i for i, name in enumerate(space.candidates[0]) if name == "keep0.75"][0]
    assert large[gone] - of_gate == 4 * (small[gone] - of_gate)


def test_frames_in_the_batch_count() -> None:
    class Frames(Inverted):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)

    model, x = Frames(), torch.randn(2, 3, 3, 8, 8)
    space = group_space(model, x)
    network = rewrite(model, space.architecture([3, 3]))
    saved = measure_cost(model, x).macs - measure_cost(network, x).macs
    assert saved == sum(row[0].macs - row[3].macs for row in slot_costs(space))


def test_a_conv_of_a_gate_that_must_stay_splits_the_group() -> None:
    model, x = Inverted(), images(size=8)
    space = search_space(model, x, granularity="group", skip=["blocks.0.gate.expand"])
    assert [slot.name for slot in slots_of(space)] == ["blocks.1"]
    names = [slot.name for slot in space.slots]
    assert "blocks.0.gate.reduce" in names
    assert "blocks.0.gate.expand" in [frozen.name for frozen in space.frozen]


class Reordered(Squeeze):
    """Weighs channels by the factors of others, which no shape shows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.reduce(x.mean((2, 3), keepdim=True)).relu()
        return x * self.expand(y).sigmoid().flip(1)


class Neighbours(Squeeze):
    """What the first conv reads is taken together from several channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.mean((2, 3), keepdim=True)
        return x * self.expand(self.reduce(y.cumsum(1))).sigmoid()


class Counts(Squeeze):
    """Looks at how many channels there are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (24 / x.shape[1])


@pytest.mark.parametrize("kind", [Reordered, Neighbours, Counts])
def test_a_gate_that_a_run_does_not_bear_out_makes_no_group(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = Inverted(kind), images(size=8)
    space = search_space(model, x, granularity="group")
    assert slots_of(space) == []
    names = [site.conv for slot in space.slots for site in slot.sites]
    assert names[:5] == [
        f"blocks.0.{n}" for n in ("widen", "each", "gate.reduce", "gate.expand", "project")
    ]
