"""Merged convs: where they are offered, and what the network with them is."""

import random
from functools import partial

import pytest
import timm
import torch
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from models import TinyResNet, images, run_seeded
from torch import fx, nn

from refiner.core.errors import ArchitectureError
from refiner.core.surgery import copied
from refiner.cost.costs import measure_cost, slot_costs
from refiner.exports.exporting import export
from refiner.graph.conv_spec import conv_spec
from refiner.space.architecture import Architecture
from refiner.space.candidates import get_operation
from refiner.space.merging import merged_spec
from refiner.space.operations import Identity
from refiner.space.rewriting import rewrite
from refiner.space.search_space import SearchSpace, search_space
from refiner.space.supernet import Supernet

MERGED = ("merged1x1", "merged_depthwise3x3", "merged3x3", "merged5x5")


def space_of(model: nn.Module, x: torch.Tensor, *names: str, **options) -> SearchSpace:
    """Return the space of merged convs, in which every slot has another candidate."""
    names = names or MERGED
    return search_space(
        model, x, granularity="group", candidates=[*names, "depthwise3x3", "lowrank2"], **options
    )


def vector_of(space: SearchSpace, name: str) -> tuple[int, ...]:
    return tuple(names.index(name) if name in names else 0 for names in space.candidates)


def offered(space: SearchSpace, name: str) -> list[str]:
    return [s.name for s, names in zip(space.slots, space.candidates, strict=True) if name in names]


def assert_merged(
    model: nn.Module, x: torch.Tensor, space: SearchSpace, name: str, others: list[torch.Tensor]
) -> nn.Module:
    """Compare the rewritten network with the supernet's path, the prediction, and the original.

    Args:
        others: inputs of other sizes, for which every slot has to give the original's size.
    """
    vector = vector_of(space, name)
    rewritten = rewrite(model, space.architecture(vector))
    net = Supernet(model, space)
    before = run_seeded(model, x, training=False)
    assert torch.equal(before, run_seeded(net, x, training=False)), "the zero vector"
    net.select(vector)
    rewritten.load_state_dict(net.emit(vector).state_dict())
    for training in (False, True):
        ours = run_seeded(copied(rewritten), x, training)
        assert torch.equal(ours, run_seeded(copied(net), x, training))
        assert torch.equal(ours, run_seeded(net.emit(vector), x, training))
    before, after = measure_cost(model, x), measure_cost(rewritten, x)
    changed = [(row[k], row[0]) for row, k in zip(slot_costs(space), vector, strict=True) if k]
    assert after.macs == before.macs + sum(new.macs - old.macs for new, old in changed)
    assert after.params == before.params + sum(new.params - old.params for new, old in changed)
    assert (after.thop_macs, after.missed) == (after.macs, ())
    ends = [slot.output for slot, k in zip(space.slots, vector, strict=True) if k]
    for other in [x, *others]:
        assert shapes(rewritten, ends, other) == shapes(model, ends, other)
    return rewritten


def shapes(model: nn.Module, names: list[str], x: torch.Tensor) -> list[torch.Size]:
    """Return the shapes of what some modules give."""
    found: list[torch.Size] = []
    hooks = [
        model.get_submodule(n).register_forward_hook(lambda _m, _i, y: found.append(y.shape))
        for n in names
    ]
    run_seeded(model, x, training=False)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("resnet18", {"merged1x1": 8, "merged3x3": 8, "merged5x5": 2, "merged_depthwise3x3": 8}),
        ("resnet50", {"merged1x1": 16, "merged3x3": 0, "merged5x5": 0, "merged_depthwise3x3": 8}),
        # Residual blocks with an expansion, and those without one, are cut where channels are few.
        ("mobilenetv2_100", {"merged1x1": 16, "merged3x3": 16, "merged5x5": 0}),
        ("resnetv2_50", {"merged1x1": 16, "merged3x3": 0}),
    ],
)
def test_networks_of_merged_convs(name: str, counts: dict[str, int]) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, drop_path_rate=0.2)
    x, others = images(size=64), [images(size=65), images(size=71)]
    space = space_of(model, x, *counts)
    assert {name: len(offered(space, name)) for name in counts} == counts
    for each, count in counts.items():
        if count:
            assert_merged(model, x, space, each, others)


class Vgg(nn.Module):
    """Pairs of convs without skip connections; a pool halves the size between two of a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.two, self.norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.pool, self.fc = nn.MaxPool2d(2), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.one(self.stem(x).relu_()).relu_())
        return self.fc(self.norm(self.two(x)).relu_().mean((2, 3)))


class Unpadded(Vgg):
    """The conv before the pool takes a pixel away: of odd sizes alone the pool does, too."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(8, 16, 2)


def test_a_pool_between_convs_that_keep_the_size_stays() -> None:
    torch.manual_seed(0)
    model, x = Vgg(), images(size=14)
    space = space_of(model, x)
    assert offered(space, "merged3x3") == ["one"]
    assert_merged(model, x, space, "merged3x3", [images(size=15), images(size=17)])
    assert offered(space_of(Unpadded(), images(size=15)), "merged3x3") == []
    # The pool reads 8 channels, and the conv after it is all that is merged: its kernel is 3x3.
    assert offered(space_of(model, x, allow_larger=True), "merged5x5") == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(0, 12))
def test_one_conv_has_the_size_of_several_for_every_input(seed: int, count: int, more: int) -> None:
    draw = random.Random(seed)
    convs, size = [], 13 + more
    for _ in range(count):
        kernel, dilation = draw.choice([1, 2, 3, 4, 5]), draw.choice([1, 1, 2])
        stride, padding = draw.choice([1, 2, 3]), draw.randrange(4)
        convs.append(nn.Conv2d(1, 1, kernel, stride, padding, dilation))
        size = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        assume(size >= 1)
    spec, x = merged_spec([conv_spec(conv) for conv in convs]), torch.zeros(1, 1, *[13 + more] * 2)
    with torch.device("meta"):
        expected = nn.Sequential(*convs).to("meta")(x.to("meta")).shape
    assert spec.output_size(x.shape[2:]) == expected[2:]
    for operation in ("dense1x1", "conv3x3", "conv5x5", "depthwise3x3"):
        assert get_operation(operation).build(spec)(x).shape == expected


def test_the_merged_conv_of_two_is_their_product() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(4, 6, 3, 2, 2, bias=False), nn.Conv2d(6, 5, 3, 1, 0, bias=False)
    spec = merged_spec([conv_spec(first), conv_spec(second)])
    assert (spec.kernel_size, spec.stride, spec.padding) == ((7, 7), (2, 2), ((2, 2), (2, 2)))
    assert (spec.in_channels, spec.out_channels, spec.bias) == (4, 5, False)
    # Each input at a time, of a place in the middle, gives the weights of the conv that both are.
    weight = torch.zeros(5, 4, 7, 7)
    for c, i, j in ((c, i, j) for c in range(4) for i in range(7) for j in range(7)):
        x = torch.zeros(1, 4, 19, 19)
        x[0, c, 4 + i, 4 + j] = 1
        weight[:, c, i, j] = second(first(x))[0, :, 3, 3].detach()
    merged = nn.Conv2d(4, 5, 7, 2, 2, bias=False)
    merged.weight.data = weight
    x = torch.randn(2, 4, 18, 21)
    assert torch.allclose(merged(x), second(first(x)), atol=1e-5)


def test_the_merged_conv_pads_as_the_first_that_pads() -> None:
    plain, reflecting = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect")
    last = nn.Conv2d(6, 4, 3, padding=1)
    specs = [conv_spec(conv) for conv in (plain, reflecting, last)]
    assert merged_spec(specs).padding_mode == "reflect"
    assert merged_spec(specs[:1]).padding_mode == merged_spec(specs[2:]).padding_mode == "zeros"


def test_only_what_is_cheaper_and_not_wider_than_the_group_is_offered() -> None:
    model, x = TinyResNet(), images()  # 4 -> 4 -> 4 and 4 -> 8 -> 8 channels, kernels of 3x3
    space = space_of(model, x)
    assert offered(space, "merged3x3") == offered(space, "merged1x1") == ["block1", "block2"]
    assert offered(space, "merged5x5") == ["block2"]
    assert offered(space_of(model, x, allow_larger=True), "merged5x5") == ["block1", "block2"]
    for granularity in ("conv", "block", "all"):  # these slots may be less than a group
        found = search_space(
            model, x, granularity=granularity, candidates=[*MERGED, "depthwise3x3"]
        )
        assert not any(name in names for name in MERGED for names in found.candidates)


def test_costs_by_hand() -> None:
    model, x = TinyResNet(), images(size=16)  # block2: 4 channels of 16x16 to 8 of 8x8, two norms
    space = space_of(model, x)
    costs = slot_costs(space)[1]
    by_name = dict(zip(space.candidates[1], costs, strict=True))
    assert by_name["merged3x3"].macs == 64 * 4 * 8 * 9
    assert by_name["merged3x3"].params == 4 * 8 * 9 + 2 * 8, "the last norm stays"
    assert by_name["merged_depthwise3x3"].macs == 64 * (4 * 9 + 4 * 8)
    assert by_name["merged1x1"].params == 4 * 8 + 2 * 8


class Group(nn.Module):
    """Two convs with something between them."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3, 2, 1)
        self.norm, self.second = nn.BatchNorm2d(12), nn.Conv2d(12, 8, 3)
        self.inside = between or nn.ReLU(inplace=True)

    def between(self, y: torch.Tensor) -> torch.Tensor:
        return self.inside(self.norm(y))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.between(self.first(self.stem(x)))).mean((2, 3))


class CountsInside(Group):
    """Runs with half as many channels, but not with those of the group's input."""

    def between(self, y: torch.Tensor) -> torch.Tensor:
        assert y.shape[1] in (6, 12)
        return self.inside(self.norm(y))


class SizesInside(Group):
    """Resizes to the size that its first conv gives."""

    def between(self, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(self.norm(y), 7).relu()


class ReadsTheSize(Group):
    """Reads the size of what its first conv gives in another place, too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.first(self.stem(x)))
        return self.second(y.relu()).mean((2, 3)) + y.shape[-1]


class ReadsTheNorm(Group):
    """Reads an attribute of its norm, which cannot go."""

    def between(self, y: torch.Tensor) -> torch.Tensor:
        return self.inside(self.norm(y)) * self.norm.eps


@pytest.mark.parametrize(
    ("kind", "works"),
    [(Group, True), (CountsInside, False), (SizesInside, False), (ReadsTheSize, False),
     (ReadsTheNorm, False)],
)  # fmt: skip
def test_it_is_offered_where_a_run_bears_it_out(kind: type[nn.Module], works: bool) -> None:
    torch.manual_seed(0)
    model, x = kind(), images(size=16)
    space = space_of(model, x)
    assert any(slot.is_group for slot in space.slots) is (kind is not ReadsTheNorm)
    assert offered(space, "merged3x3") == (["first"] if works else [])
    if works:
        assert_merged(model, x, space, "merged3x3", [images(size=17), images(size=20)])


@pytest.mark.parametrize("between", [nn.PReLU(), nn.PReLU(12), nn.Sequential(nn.BatchNorm2d(12))])
def test_numbers_for_each_channel_go_with_the_channels(between: nn.Module) -> None:
    torch.manual_seed(0)
    model, x = Group(between), images(size=16)
    space = space_of(model, x)
    assert offered(space, "merged3x3") == ["first"]
    assert_merged(model, x, space, "merged3x3", [images(size=17)])


class RandomGroups(nn.Module):
    """Random runs of convs with norms, activations, pools and depthwise convs between them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.dims = draw.choice([1, 2, 2, 2, 3])
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[self.dims]
        norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[self.dims]
        pool = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}[self.dims]
        layers: list[nn.Module] = [conv(3, 6, 3, padding=1)]
        inner = 6
        for i in range(draw.randint(2, 4)):
            out, kernel = draw.choice([4, 6, 8]), draw.choice([1, 2, 3, 5])
            padding = draw.choice([kernel // 2, kernel // 2, 0])
            mode = draw.choice(["zeros", "zeros", "replicate"])
            make = partial(conv, padding=padding, bias=draw.random() < 0.5, padding_mode=mode)
            layers.append(make(inner, out, kernel, draw.choice([1, 1, 2]) if i < 3 else 1))
            if draw.random() < 0.6:
                layers.append(norm(out))
            layers.append(draw.choice([nn.ReLU(inplace=True), nn.SiLU(), nn.Dropout(0.2)]))
            if draw.random() < 0.3:
                layers.append(pool(2, stride=draw.choice([1, 2]), padding=draw.choice([0, 1])))
            if draw.random() < 0.3:
                layers.append(conv(out, out, 3, padding=1, groups=out))
            inner = out
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).flatten(2).mean(2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(MERGED))
def test_random_groups(seed: int, name: str) -> None:
    torch.manual_seed(seed)
    model = RandomGroups(seed)

    def sized(size: int) -> torch.Tensor:
        return torch.randn(2, 3, *[size] * model.dims)

    x = sized(23)
    try:
        model(x)
    except RuntimeError:
        assume(False)  # an image of one pixel, which no kernel fits
    space = space_of(model, x, name, allow_larger=True)
    assert_merged(model, x, space, name, [sized(24), sized(26), sized(29)])
    event(f"{len(offered(space, name))} groups")


def test_a_slot_that_it_does_not_suit_refuses_it() -> None:
    model, x = TinyResNet(), images()
    slots = search_space(model, x).slots
    wrong = Architecture(
        vector=(1, 0, 0, 0), slots=slots, candidates=(("original", "merged3x3"),) * 4
    )
    with pytest.raises(ArchitectureError, match="one 3x3 conv can stand for, and slot block1.con"):
        rewrite(model, wrong)


def test_it_is_saved_with_its_network(tmp_path) -> None:
    model, x = TinyResNet(), images()
    space = space_of(model, x)
    found = space.architecture(vector_of(space, "merged3x3"))
    found.save(tmp_path / "architecture.json")
    loaded = Architecture.load(tmp_path / "architecture.json")
    assert loaded == found
    less, again = rewrite(model, found), rewrite(model, loaded)
    again.load_state_dict(less.state_dict())
    assert torch.equal(run_seeded(less, x, False), run_seeded(again, x, False))


@pytest.mark.parametrize("name", ["merged3x3", "merged_depthwise3x3"])
def test_exports_equal_it_at_other_batch_and_input_sizes(name: str, tmp_path) -> None:
    model, x, other = TinyResNet(), images(size=9), images(count=5, size=14)
    space = space_of(model, x)
    less = rewrite(model, space.architecture(vector_of(space, name))).eval()
    assert any(isinstance(module, Identity) for module in less.modules())
    assert torch.equal(fx.symbolic_trace(less)(other), less(other))
    for kind, suffix in (("torchscript", "ts"), ("onnx", "onnx"), ("pt2", "pt2"), ("python", "")):
        # `export` loads it again and compares it at several batch sizes.
        assert "any batch size" in export(less, tmp_path / f"m.{suffix}", x, format=kind)
    assert torch.allclose(torch.jit.load(tmp_path / "m.ts")(other), less(other), atol=1e-6)
