import pytest
import torch
from torch import nn

from refiner.core.errors import ArchitectureError, ConfigError
from refiner.enas.macro import MacroSpace
from refiner.enas.macro_network import FactorizedReduction, MacroNetwork, stages

SPACE = MacroSpace(nodes=4, operations=("conv3x3", "maxpool3x3"))
# O1 O2 O3 S31 O4 S41 S42
VECTOR = (0, 1, 0, 1, 1, 0, 1)


def make(space: MacroSpace = SPACE, **kwargs) -> MacroNetwork:
    return MacroNetwork(space, **{"channels": 4, "num_classes": 3, "in_channels": 1, **kwargs})


def images(size: int = 9) -> torch.Tensor:
    return torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0))


def test_halvings_lie_after_a_third_and_two_thirds() -> None:
    assert stages(12) == (0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2)
    assert stages(4) == (0, 0, 1, 2, 2)
    assert stages(1) == (0, 0)


def test_factorized_reduction_by_hand() -> None:
    reduction = FactorizedReduction(2).eval()
    for conv in (reduction.even, reduction.odd):
        nn.init.ones_(conv.weight)
    x = torch.arange(9.0).reshape(1, 1, 3, 3).expand(1, 2, 3, 3)
    with torch.no_grad():
        y = reduction(x) * (1 + reduction.norm.eps) ** 0.5
    assert torch.allclose(y[0, 0], 2 * torch.tensor([[0.0, 2.0], [6.0, 8.0]]), atol=1e-4)
    assert torch.allclose(y[0, 1], 2 * torch.tensor([[4.0, 0.0], [0.0, 0.0]]), atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_forward_is_the_formula(training: bool) -> None:
    net = make(dropout=0.0).train(training)
    net.select(VECTOR)
    x = images()
    op, norm, reduce = net.operations, net.norms, net.reductions
    x1 = norm[0](op[0][0](net.stem(x)))
    # The halvings lie after nodes 1 and 2.
    x1 = reduce["0_1"](x1)
    x2 = norm[1](op[1][1](x1))
    x1, x2 = reduce["1_1"](x1), reduce["1_2"](x2)
    x3 = norm[2](op[2][0](x2) + x1)
    x4 = norm[3](op[3][1](x3) + x2)
    assert torch.equal(net(x), net.head(x4))
    assert net(x).shape == (2, 3)


def test_a_pool_comes_after_a_pointwise_conv() -> None:
    pool = make().operations[0][1]
    kinds = [type(module) for module in pool]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert pool[0].kernel_size == (1, 1)


def test_what_is_not_chosen_gets_no_gradient() -> None:
    net = make().train()
    net.select(VECTOR)
    net(images()).sum().backward()
    for node, index in enumerate((0, 1, 0, 1)):
        for k in (0, 1):
            grads = [p.grad for p in net.operations[node][k].parameters()]
            assert all((g is not None) == (k == index) for g in grads)


def test_what_is_not_chosen_is_not_run() -> None:
    net = make()
    ran = []
    choices = {f"{i}.{k}": op for i, ops in enumerate(net.operations) for k, op in enumerate(ops)}
    for name, module in {**choices, **dict(net.reductions.items())}.items():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    net.select((0, 1, 0, 0, 0, 0, 0))
    net(images())
    assert ran == ["0.0", "0_1", "1.1", "1_2", "2.0", "3.0"]


@pytest.mark.parametrize("vector", [VECTOR, (0,) * 7, (1,) * 7])
def test_emit_is_the_path_to_the_bit(vector: tuple[int, ...]) -> None:
    net = make().train()
    net.select(vector)
    net(images())  # moves the norms' statistics
    net.eval()
    emitted = net.emit(vector)
    assert not emitted.training
    with torch.no_grad():
        assert torch.equal(emitted(images()), net(images()))
    theirs = {p.data_ptr() for p in net.parameters()}
    assert not theirs & {p.data_ptr() for p in emitted.parameters()}
    assert len(list(emitted.parameters())) < len(list(net.parameters()))
    traced = torch.fx.symbolic_trace(emitted)
    with torch.no_grad():
        assert torch.equal(traced(images()), net(images()))


def test_build_is_fresh_and_the_seed_decides() -> None:
    state = torch.get_rng_state()
    net = make().eval()
    one, two, other = (net.build(VECTOR, seed).eval() for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    with torch.no_grad():
        assert torch.equal(one(images()), two(images()))
        assert not torch.equal(one(images()), other(images()))
        assert one(images()).shape == net.emit(VECTOR)(images()).shape


def test_all_operations_keep_the_size() -> None:
    net = make(MacroSpace(nodes=1)).eval()
    x = torch.randn(1, 4, 7, 5, generator=torch.Generator().manual_seed(0))
    for operation in net.operations[0]:
        assert operation(x).shape == x.shape


def test_it_is_what_a_search_trains() -> None:
    net = make()
    assert net.candidates == SPACE.choices
    assert net.model is net


def test_errors() -> None:
    net = make()
    with pytest.raises(ArchitectureError, match="6 numbers, but the macro space has 7"):
        net.select((0,) * 6)
    with pytest.raises(ArchitectureError, match="the skip 1 -> 3 has no index 2"):
        net.select((0, 0, 0, 2, 0, 0, 0))
    with pytest.raises(ArchitectureError, match="the operator of node 1 has no index 9"):
        net.emit((9, 0, 0, 0, 0, 0, 0))
    with pytest.raises(ConfigError, match="channels is 1"):
        make(channels=1)
