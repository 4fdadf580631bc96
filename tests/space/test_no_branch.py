"""The candidate ``no_branch``: where it is offered, and what the network without branches is."""

import random
from functools import partial

import pytest
import timm
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from models import TinyResNet, images, run_seeded
from torch import fx, nn

from refiner.core.errors import ArchitectureError
from refiner.core.surgery import copied
from refiner.cost.costs import measure_cost, slot_costs
from refiner.exports.exporting import export
from refiner.space.architecture import Architecture
from refiner.space.candidates import NO_BRANCH
from refiner.space.constants import Constant
from refiner.space.rewriting import rewrite
from refiner.space.search_space import SearchSpace, search_space
from refiner.space.supernet import Supernet


def space_of(model: nn.Module, x: torch.Tensor, granularity: str = "group") -> SearchSpace:
    return search_space(model, x, granularity=granularity)


def without_branches(space: SearchSpace) -> tuple[int, ...]:
    """Return the vector that removes every branch which can go."""
    return tuple(n.index(NO_BRANCH) if NO_BRANCH in n else 0 for n in space.candidates)


def offered(space: SearchSpace) -> list[str]:
    """Return the slots that are branches which can go."""
    return [s.name for s, n in zip(space.slots, space.candidates, strict=True) if NO_BRANCH in n]


def with_noise(model: nn.Module) -> nn.Module:
    """Give every constant numbers of its own."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, Constant):
            module.value.data = torch.randn(module.value.shape, generator=generator)
    return model


def with_outputs(model: nn.Module, space: SearchSpace, rewritten: nn.Module) -> nn.Module:
    """Return the original, with constants of the rewritten one in place of branches' outputs."""
    work = copied(model)
    for slot, index in zip(space.slots, without_branches(space), strict=True):
        if index:
            modules = rewritten.get_submodule(slot.sites[-1].conv).modules()
            (value,) = (m.value.detach() for m in modules if isinstance(m, Constant))
            work.get_submodule(slot.output).register_forward_hook(
                lambda _m, _i, y, value=value: value.expand_as(y).clone()
            )
    return work


def assert_branches_can_go(model: nn.Module, x: torch.Tensor, space: SearchSpace) -> None:
    """Compare the rewritten network with the supernet's path, the original, and the prediction."""
    vector = without_branches(space)
    rewritten = with_noise(rewrite(model, space.architecture(vector)))
    expected = run_seeded(with_outputs(model, space, rewritten), x, training=False)
    given = run_seeded(rewritten, x, training=False)
    assert torch.allclose(given, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    net = Supernet(model, space)
    net.select(vector)
    with_noise(net)
    rewritten.load_state_dict(net.emit(vector).state_dict())
    for training in (False, True):
        ours = run_seeded(rewritten, x, training)
        assert torch.equal(ours, run_seeded(net.emit(vector), x, training))
    before, after = measure_cost(model, x), measure_cost(rewritten, x)
    removed = [(row[k], row[0]) for row, k in zip(slot_costs(space), vector, strict=True) if k]
    assert all(new.macs == 0 for new, _ in removed)
    assert after.macs == before.macs - sum(old.macs for _, old in removed)
    assert after.params == before.params + sum(new.params - old.params for new, old in removed)
    assert (after.thop_macs, after.missed) == (after.macs, ())


@pytest.mark.parametrize(
    ("name", "granularity", "branches"),
    [
        ("resnet18", "group", 8),
        ("resnet18", "block", 8),
        ("resnet50", "group", 16),
        ("mobilenetv2_100", "group", 10),
        ("efficientnet_lite0", "group", 9),
        ("resnetv2_50", "group", 16),  # the branch begins and the skip ends in other places
        ("repvgg_a0", "block", 21),  # three paths meet, and one conv is the branch
    ],
)
def test_networks_without_their_branches(name: str, granularity: str, branches: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, drop_path_rate=0.2 if "rep" not in name else 0.0)
    space = space_of(model, images(size=64), granularity)
    assert len(offered(space)) == branches
    assert_branches_can_go(model, images(size=64), space)


class Padded(TinyResNet):
    """Shortcuts of option A: every second pixel, with channels of zeros."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(self.stem(x)).relu_()
        for block in (self.block1, self.block2):
            y = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu_()))
            if y.shape != x.shape:
                x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
            y += x
            x = y.relu_()
        return self.fc(x.mean((2, 3)))


def test_a_padded_shortcut_stays() -> None:
    torch.manual_seed(0)
    model, x = Padded(), images(size=9)
    for granularity in ("group", "block"):
        space = space_of(model, x, granularity)
        assert offered(space) == ["block1", "block2"]
        assert_branches_can_go(model, x, space)


class Branch(nn.Module):
    """A stem, and a skip connection past two convs."""

    def __init__(self, dims: int = 2, kernel: int = 3, padding: int = 1, stride: int = 1) -> None:
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.stem, self.first = conv(3, 8, 1), conv(8, 12, kernel, stride, padding)
        self.second = conv(12, 8, kernel, 1, padding)
        self.skip = conv(8, 8, 2 * kernel - 1, stride, 2 * padding)
        self.more = nn.Parameter(torch.ones(8, *[1] * dims))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.joined(x, self.second(self.first(x).relu_())).flatten(2).mean(2)

    def joined(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.skip(x) + y


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 3), st.sampled_from([(3, 1), (3, 0), (2, 1), (5, 1)]), st.integers(0, 3))
def test_any_window_and_number_of_dimensions(dims: int, window: tuple[int, int], more: int) -> None:
    torch.manual_seed(0)
    model, x = Branch(dims, *window), torch.randn(2, 3, *[11] * dims)
    space = search_space(model, x, granularity="group", candidates=[NO_BRANCH])
    assert offered(space) == ["first"]
    less = with_noise(rewrite(model, space.architecture((1,))))
    other = torch.randn(3, 3, *range(12 + more, 12 + more + dims))
    expected = with_outputs(model, space, less)(other)
    assert torch.allclose(less(other), expected, atol=1e-5)


class Strided(Branch):
    """A branch and a projection that halve the size."""

    def __init__(self) -> None:
        super().__init__(stride=2)
        self.skip = nn.Conv2d(8, 8, 1, 2)


def test_strides_are_kept_for_odd_and_even_sizes() -> None:
    model = Strided()
    space = space_of(model, images(size=9))
    less = with_noise(rewrite(model, space.architecture(without_branches(space))))
    for size in (9, 10, 13):
        expected = with_outputs(model, space, less)(images(size=size))
        assert torch.allclose(less(images(size=size)), expected, atol=1e-6)


class Bare(Branch):
    """Has no skip connection."""

    def joined(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y


class Multiplied(Branch):
    """Meets the skip connection at a product."""

    def joined(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x * y


class Concatenated(Branch):
    """Meets the skip connection at a concatenation."""

    def joined(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, y], 1)


class Broadcast(Branch):
    """Adds a branch of one pixel to a skip connection of many."""

    def joined(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y.mean((2, 3), keepdim=True)


class NormedInside(Branch):
    """Has a norm with parameters for each pixel, which no candidate's cost counts."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm((12, 9, 9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return (x + self.second(self.norm(self.first(x)).relu_())).flatten(2).mean(2)


class Tapped(Branch):
    """Reads the branch's output in another place, too."""

    def joined(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([x + y, y], 1)


class Gated(Branch):
    """Multiplies the branch's output with a gate that comes from its input."""

    def joined(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y * x.mean((2, 3), keepdim=True).sigmoid()


class Mixed(Branch):
    """Has a linear layer after the last conv."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def joined(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + self.linear(y.movedim(1, -1)).movedim(-1, 1)


@pytest.mark.parametrize(
    "kind", [Bare, Multiplied, Concatenated, Broadcast, NormedInside, Tapped, Gated, Mixed]
)
@pytest.mark.parametrize("granularity", ["group", "block"])
def test_where_a_branch_cannot_go(kind: type[nn.Module], granularity: str) -> None:
    assert offered(space_of(kind(), images(size=9), granularity)) == []


def test_a_layer_scale_and_drop_path_after_the_last_conv_stay() -> None:
    class Scaled(Branch):
        def joined(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            y = self.more * y
            if self.training:
                y = y * y.new_empty(len(y), 1, 1, 1).bernoulli_(0.5)
            return x + y

    torch.manual_seed(0)
    model, x = Scaled(), images(size=9)
    space = space_of(model, x)
    assert offered(space) == ["first"]
    assert_branches_can_go(model, x, space)


def test_a_slot_that_is_part_of_a_branch_is_not_offered_it() -> None:
    model, x = TinyResNet(), images()
    assert offered(search_space(model, x, candidates=[NO_BRANCH, "depthwise3x3"])) == []
    bottleneck = timm.create_model("resnet50")
    assert offered(space_of(bottleneck, images(size=64), "block")) == []
    wrong = search_space(model, x, candidates=["depthwise3x3"]).architecture((1, 0, 0, 0))
    wrong = Architecture(
        vector=wrong.vector, slots=wrong.slots, candidates=(("original", NO_BRANCH),) * 4
    )
    with pytest.raises(
        ArchitectureError, match="a whole residual branch, and slot block1.conv1 is none"
    ):
        rewrite(model, wrong)


class RandomResidual(nn.Module):
    """Random branches of one to three convs beside skip connections, identities and projections."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.dims = draw.choice([1, 2, 2, 3])
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[self.dims]
        norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[self.dims]
        self.stem, self.blocks, channels = conv(3, 6, 3, padding=1), nn.ModuleList(), 6
        for _ in range(draw.randint(1, 3)):
            branch: list[nn.Module] = []
            count, stride, inner = draw.randint(1, 3), draw.choice([1, 1, 2]), channels
            for i in range(count):
                out = 6 if i == count - 1 else draw.choice([4, 8, 9])
                kernel, step = draw.choice([1, 3, 5]), stride if i == 0 else 1
                layer = conv(inner, out, kernel, step, kernel // 2, bias=draw.random() < 0.5)
                branch.append(layer)
                if draw.random() < 0.7:
                    branch.append(draw.choice([norm, norm, partial(nn.GroupNorm, 1)])(out))
                if i < count - 1:
                    branch.append(draw.choice([nn.ReLU(inplace=True), nn.SiLU(), nn.Dropout(0.2)]))
                    if draw.random() < 0.3:
                        branch.append(conv(out, out, 3, padding=1, groups=out))
                inner = out
            skip = conv(6, 6, 1, stride) if stride > 1 else nn.Identity()
            self.blocks.append(nn.ModuleList([nn.Sequential(*branch), skip]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for branch, skip in self.blocks:
            x = (branch(x) + skip(x)).relu()
        return x.flatten(2).mean(2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["group", "all"]))
def test_random_branches(seed: int, granularity: str) -> None:
    torch.manual_seed(seed)
    model = RandomResidual(seed)
    x = torch.randn(2, 3, *[9] * model.dims)
    space = search_space(
        model, x, granularity=granularity, candidates=[NO_BRANCH, "depthwise3x3", "avgpool3x3"],
        allow_larger=True,
    )  # fmt: skip
    assert_branches_can_go(model, x, space)
    event(f"{len(offered(space))} branches")


def test_costs_by_hand() -> None:
    # block2: 4 -> 8 -> 8 channels, two norms of 8; a constant of 8 remains, and the projection.
    model, x = TinyResNet(), images(size=16)
    space = space_of(model, x)
    original, less = (slot_costs(space)[1][k] for k in (0, without_branches(space)[1]))
    assert (less.macs, less.params) == (0, 8)
    assert original.params == 9 * (4 * 8 + 8 * 8) + 2 * (8 + 8)


def test_it_is_saved_with_its_network(tmp_path) -> None:
    model, x = TinyResNet(), images()
    space = space_of(model, x)
    found = space.architecture(without_branches(space))
    found.save(tmp_path / "architecture.json")
    loaded = Architecture.load(tmp_path / "architecture.json")
    assert loaded == found
    less = with_noise(rewrite(model, found))
    again = rewrite(model, loaded)
    again.load_state_dict(less.state_dict())
    assert torch.equal(run_seeded(less, x, False), run_seeded(again, x, False))


@pytest.mark.parametrize("kind", [TinyResNet, Padded])
def test_exports_equal_it_at_other_batch_and_input_sizes(kind: type[nn.Module], tmp_path) -> None:
    model, x = kind(), images(size=9)
    space = space_of(model, x)
    less = with_noise(rewrite(model, space.architecture(without_branches(space)))).eval()
    other = images(count=5, size=14)
    if kind is TinyResNet:  # the other one looks at shapes
        assert torch.equal(fx.symbolic_trace(less)(other), less(other))
    for name, suffix in (("torchscript", "ts"), ("onnx", "onnx"), ("pt2", "pt2"), ("python", "")):
        # `export` loads it again and compares it at several batch sizes.
        assert "any batch size" in export(less, tmp_path / f"m.{suffix}", x, format=name)
    loaded = torch.jit.load(tmp_path / "m.ts")
    assert torch.allclose(loaded(other), less(other), atol=1e-6)


def test_it_trains_its_constant_and_runs_in_half_precision() -> None:
    model, x = TinyResNet(), images()
    space = space_of(model, x)
    less = rewrite(model, space.architecture(without_branches(space)))
    with torch.autocast("cpu", torch.bfloat16):
        output = less(x)
    assert output.dtype == torch.bfloat16
    output.float().square().sum().backward()
    constants = [m for m in less.modules() if isinstance(m, Constant)]
    assert len(constants) == 2
    assert all(m.value.grad is not None and m.value.grad.abs().sum() > 0 for m in constants)
    half = copied(less).to(torch.bfloat16)
    assert half(x.bfloat16()).dtype == torch.bfloat16
