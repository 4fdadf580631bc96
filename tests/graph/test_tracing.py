import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from models import PlainNet, RandomNet, TinyResNet, images, run_seeded
from torch import fx, nn

from refiner.core.errors import ModelError
from refiner.graph.tracing import trace


def same_in_both_modes(model: nn.Module, traced: nn.Module, x: torch.Tensor) -> bool:
    return all(
        torch.equal(run_seeded(model, x, mode), run_seeded(traced, x, mode))
        for mode in (False, True)
    )


@pytest.mark.parametrize("model", [TinyResNet(), PlainNet()], ids=["residual", "plain"])
def test_trace_repeats_the_model_and_keeps_names(model: nn.Module) -> None:
    x = images()
    traced = trace(model, x)
    assert isinstance(traced, fx.GraphModule)
    assert list(traced.state_dict()) == list(model.state_dict())
    assert same_in_both_modes(model, traced, x)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_random_nets_are_repeated_to_the_bit(seed: int) -> None:
    model = RandomNet(seed)
    x = images(size=model.size)
    assert same_in_both_modes(model, trace(model, x), x)


def test_timm_models_are_repeated_with_drop_path_and_dropout() -> None:
    for name in ("resnet10t", "convnext_atto", "mobilenetv3_small_050"):
        model = timm.create_model(name, drop_rate=0.2, drop_path_rate=0.2)
        x = images(size=64)
        assert same_in_both_modes(model, trace(model, x), x), name


def test_shapes_are_annotated() -> None:
    traced = trace(TinyResNet(width=4), images(count=3, size=8))
    shapes = {node.name: node.meta.get("shape") for node in traced.graph.nodes}
    assert shapes["stem"] == (3, 4, 8, 8)
    assert shapes["block2_conv1"] == (3, 8, 4, 4)


def test_the_caller_loses_nothing() -> None:
    model = TinyResNet()
    model.block1.eval()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    rng = torch.get_rng_state()
    x = images()
    before = x.clone()
    trace(model, x)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.equal(x, before)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else -self.conv(x)


class ModeDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return F.dropout(self.conv(x), 0.5, training=self.training)


class ModeSwitching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x) if self.training else self.conv(x).relu() + 1


@pytest.mark.parametrize("part", [Untraceable, ModeDependent, ModeSwitching])
def test_whatever_a_forward_does_its_convs_are_nodes_and_both_modes_hold(part) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), part(), nn.Sequential(part(), nn.Conv2d(4, 4, 3)))
    x = images()
    traced = trace(model, x)
    assert same_in_both_modes(model, traced, x)
    assert same_in_both_modes(model, traced, x)  # switched back and forth
    called = {str(n.target) for n in traced.graph.nodes if n.op == "call_module"}
    assert called == {"0", "1.conv", "2.0.conv", "2.1"}
    root = part()
    assert same_in_both_modes(root, trace(root, images(channels=4)), images(channels=4))


def test_a_model_that_fails_in_train_mode_has_no_train_graph() -> None:
    class Wants(nn.Conv2d):
        def forward(self, x, targets=None):
            assert targets is not None or not self.training
            return super().forward(x)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = Wants(3, 4, 3)

        def forward(self, x):
            return self.conv(x)

    assert trace(Outer(), images()).meta["train_graph"] is None


def test_on_the_meta_device_there_are_shapes_and_no_numbers() -> None:
    with torch.device("meta"):
        model, x = TinyResNet(width=4), torch.empty(2, 3, 8, 8)
    shapes = {n.name: n.meta.get("shape") for n in trace(model, x).graph.nodes}
    assert shapes["block2_conv1"] == (2, 8, 4, 4)


def test_optional_arguments_keep_their_defaults() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x, mask=None, *, scale=2.0):
            x = self.conv(x) * scale
            return x if mask is None else x * mask

    traced = trace(Optional(), images())
    assert [n.name for n in traced.graph.nodes if n.op == "placeholder"] == ["x"]


def test_tuple_and_mapping_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, left, right):
            return self.conv(left) - right.mean()

    model, a, b = Two(), images(seed=1), images(seed=2)
    expected = model(a, b)
    assert torch.equal(trace(model, (a, b))(a, b), expected)
    assert torch.equal(trace(model, {"right": b, "left": a})(left=a, right=b), expected)


def test_a_batch_of_one_that_cannot_train_is_doubled() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4))
    traced = trace(model, images(count=1))
    assert next(n for n in traced.graph.nodes if n.name == "_0").meta["shape"] == (1, 4, 1, 1)


def test_an_input_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(ModelError, match="2x5x8x8") as caught:
        trace(TinyResNet(), images(channels=5))
    assert "\n" not in str(caught.value)


def test_lists_and_dicts_are_pythons_own_in_a_replay() -> None:
    class Appends(nn.Module):
        def forward(self, parts: list[torch.Tensor], more: dict[str, torch.Tensor]) -> torch.Tensor:
            parts.append(parts[0])  # as torchvision's detection models do
            more["again"] = parts[1]
            return torch.stack(parts).sum(0) + more["again"]

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.appends = nn.Conv2d(3, 4, 3), Appends()

        def forward(self, x: torch.Tensor):
            y = self.conv(x)
            z = self.appends([y, 2 * y], {"y": y})
            return [
                {"boxes": z.mean(), "scores": [y.sum()]},
                {"boxes": z.sum(), "scores": [y.mean()]},
            ]

    model, x = Detector(), images()
    expected, found = model(x), trace(model, x)(x)
    assert type(found) is list
    assert [type(part) for part in found] == [dict, dict]
    assert type(found[0]["scores"]) is list
    assert torch.equal(found[1]["boxes"], expected[1]["boxes"])
