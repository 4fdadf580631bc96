import random

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import PlainNet, RandomNet, TinyResNet, images, run_seeded
from torch import nn

from refiner.core.errors import ArchitectureError, ModelError
from refiner.space.architecture import Architecture
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space


def zero(space) -> Architecture:
    return space.architecture((0,) * len(space.slots))


def assert_equal_to_the_bit(model: nn.Module, rewritten: nn.Module, x: torch.Tensor) -> None:
    for training in (False, True, False):
        a, b = run_seeded(model, x, training), run_seeded(rewritten, x, training)
        assert torch.equal(a, b)
    state = rewritten.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_zero_vector_of_timm_models(name: str) -> None:
    model, x = timm.create_model(name), images(size=64)
    assert_equal_to_the_bit(model, rewrite(model, zero(search_space(model, x))), x)


def test_zero_vector_of_a_plain_model() -> None:
    model, x = PlainNet(), images()
    assert_equal_to_the_bit(model, rewrite(model, zero(search_space(model, x))), x)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["conv", "block"]))
def test_random_nets(seed: int, granularity) -> None:
    model = RandomNet(seed)
    x = images(size=model.size)
    try:
        space = search_space(model, x, granularity=granularity, allow_larger=True)
    except ModelError:
        return  # no slot in this one
    assert_equal_to_the_bit(model, rewrite(model, zero(space)), x)
    draw = random.Random(seed)
    vector = [draw.randrange(len(names)) for names in space.candidates]
    rewritten = rewrite(model, space.architecture(vector)).train()
    output = rewritten(x)
    output.square().sum().backward()
    assert output.shape == model(x).shape
    gradients = [p.grad for p in rewritten.parameters() if p.grad is not None]
    assert gradients
    assert all(g.isfinite().all() for g in gradients)


def test_only_what_was_chosen_changes_and_the_rest_keeps_its_weights() -> None:
    model, x = TinyResNet(), images()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    rewritten = rewrite(model, search_space(model, x).architecture((1, 0, 0, 2)))
    state = rewritten.state_dict()
    changed = {k for k in before if k not in state} | {k for k in state if k not in before}
    assert changed == {
        "block1.conv1.weight",
        "block1.conv1.0.weight",
        "block1.conv1.1.weight",
        "block2.conv2.weight",
        "block2.conv2.1.weight",
    }
    assert all(torch.equal(state[k], before[k]) for k in before if k in state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert type(rewritten) is TinyResNet


def test_the_same_seed_gives_the_same_weights_whatever_else_is_chosen() -> None:
    model, x = TinyResNet(), images()
    space = search_space(model, x)
    torch.manual_seed(1)
    one = rewrite(model, space.architecture((1, 0, 0, 0)), seed=3)
    state = torch.get_rng_state()
    two = rewrite(model, space.architecture((1, 0, 2, 0)), seed=3)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.block1.conv1[0].weight, two.block1.conv1[0].weight)
    three = rewrite(model, space.architecture((1, 0, 0, 0)), seed=4)
    assert not torch.equal(one.block1.conv1[0].weight, three.block1.conv1[0].weight)


def test_dtype_and_mode_follow_the_original() -> None:
    model = TinyResNet().double().eval()
    space = search_space(model, images().double())
    rewritten = rewrite(model, space.architecture((1, 2, 3, 1)))
    assert {p.dtype for p in rewritten.parameters()} == {torch.float64}
    assert not any(m.training for m in rewritten.modules())


def test_an_architecture_of_another_model_is_refused() -> None:
    architecture = zero(search_space(TinyResNet(width=4), images()))
    with pytest.raises(ArchitectureError, match="another model: block1.conv1"):
        rewrite(TinyResNet(width=8), architecture)
    with pytest.raises(ArchitectureError, match="no module block1.conv1"):
        rewrite(PlainNet(), architecture)


def test_the_rows_of_the_paper_on_resnet18() -> None:
    model, x = timm.create_model("resnet18"), images(size=64)
    rows = {
        "conv": ((1, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2), 0.927e7),
        "block": ((1, 0, 0, 0, 0, 0, 0, 0), 1.163e7),
    }
    for granularity, (vector, parameters) in rows.items():
        space = search_space(model, x, granularity=granularity)
        rewritten = rewrite(model, space.architecture(vector))
        assert sum(p.numel() for p in rewritten.parameters()) == pytest.approx(parameters, rel=1e-3)
