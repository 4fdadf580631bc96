import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import RandomNet, TinyResNet, images, run_seeded

from refiner.core.errors import ArchitectureError, ModelError
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space
from refiner.space.supernet import MixedOp, Supernet


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_the_zero_path_is_the_model_to_the_bit(seed: int) -> None:
    model = RandomNet(seed)
    x = images(size=model.size)
    try:
        space = search_space(model, x, allow_larger=True)
    except ModelError:
        return
    supernet = Supernet(model, space)
    for training in (False, True):
        expected = run_seeded(model, x, training)
        assert torch.equal(run_seeded(supernet, x, training), expected)


def make() -> tuple[TinyResNet, Supernet]:
    model = TinyResNet()
    return model, Supernet(model, search_space(model, images()))


def test_one_path_alone_gets_gradients() -> None:
    _, supernet = make()
    supernet.select((0, 1, 2, 3))
    supernet(images()).sum().backward()
    mixed = [m for m in supernet.modules() if isinstance(m, MixedOp)]
    assert len(mixed) == 8
    for i, module in enumerate(mixed):
        for j, operation in enumerate(module.operations):
            touched = {p.grad is not None for p in operation.parameters()}
            assert touched <= {j == i // 2}


def test_norms_of_candidates_do_not_mix() -> None:
    _, supernet = make()
    norms = supernet.model.block1.bn1.operations
    supernet.select((2, 0, 0, 0))
    supernet(images())
    assert [int(n.num_batches_tracked) for n in norms] == [0, 0, 1, 0, 0]


def test_emit_gives_a_plain_model_that_computes_the_path_and_shares_nothing() -> None:
    model, supernet = make()
    vector = (1, 0, 3, 2)
    emitted = supernet.emit(vector)
    assert not any(isinstance(m, MixedOp) for m in emitted.modules())
    expected = rewrite(model, supernet.space.architecture(vector))
    assert list(emitted.state_dict()) == list(expected.state_dict())
    supernet.select(vector)
    x = images(seed=3)
    assert torch.equal(run_seeded(supernet, x, False), run_seeded(emitted, x, False))
    shared = {p.data_ptr() for p in supernet.parameters()}
    assert shared.isdisjoint(p.data_ptr() for p in emitted.parameters())


def test_the_model_given_is_left_alone() -> None:
    model = TinyResNet()
    names = [name for name, _ in model.named_modules()]
    supernet = Supernet(model, search_space(model, images()))
    supernet.select((1, 1, 1, 1))
    supernet(images()).sum().backward()
    assert [name for name, _ in model.named_modules()] == names
    assert all(p.grad is None for p in model.parameters())


def test_a_path_that_is_none_is_refused() -> None:
    _, supernet = make()
    with pytest.raises(ArchitectureError):
        supernet.select((0, 0, 0, 9))


def test_the_seed_fixes_the_candidates() -> None:
    model = TinyResNet()
    space = search_space(model, images())
    states = [Supernet(model, space, seed=s).state_dict() for s in (1, 1, 2)]
    equal = [all(torch.equal(states[0][k], s[k]) for k in s) for s in states]
    assert equal == [True, True, False]
