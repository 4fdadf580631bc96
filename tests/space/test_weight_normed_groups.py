"""Groups of convs with weight norm: what is pruned has plain weights."""

import pytest
import torch
from models import batches, images, run_seeded
from pruning import blinded, group_space
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from refiner.cost.costs import measure_cost, slot_costs
from refiner.distill.distillation import DistillConfig, distill
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import make_task


def network(norm) -> nn.Module:
    torch.manual_seed(0)
    convs = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(2)]
    layers = norm(convs[0]), nn.ReLU(), norm(convs[1]), nn.ReLU()
    stem = nn.Conv2d(3, 8, 3, padding=1)
    return nn.Sequential(stem, *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(1)).eval()


@pytest.mark.parametrize("norm", [weight_norm, parametrizations.weight_norm])
def test_pruned_convs_have_plain_weights_and_exact_costs(norm) -> None:
    model, x = network(norm), images(size=8)
    space = group_space(model, x)
    assert [len(slot.sites) for slot in space.slots] == [2]
    before, net = measure_cost(model, x), Supernet(model, space)
    assert torch.equal(run_seeded(net, x, False), run_seeded(model, x, False))
    for k, cost in enumerate(slot_costs(space)[0][1:], 1):
        pruned = rewrite(model, space.architecture([k]))
        assert {name for name, _ in pruned[1].named_parameters()} == {"weight", "bias"}
        after, original = measure_cost(pruned, x), slot_costs(space)[0][0]
        assert after.macs - before.macs == cost.macs - original.macs
        assert after.params - before.params == cost.params - original.params
        emitted = net.emit((k,))
        pruned.load_state_dict(emitted.state_dict())
        assert torch.equal(run_seeded(pruned, x, False), run_seeded(emitted, x, False))
    torch.jit.script(pruned)


def twins(norm) -> tuple[nn.Module, nn.Module]:
    """Return a network and one without weight norm that computes the same."""
    normed, plain = network(norm), network(lambda conv: conv)
    with torch.no_grad():
        for i in (1, 3):
            next(p for p in normed[i].parameters() if p.shape == (8, 1, 1, 1)).mul_(1.5)
            plain[i].weight.mul_(1.5)
            plain[i].bias.copy_(normed[i].bias)
    return normed, plain


def test_a_pruned_network_does_not_read_the_channels() -> None:
    normed, plain = twins(parametrizations.weight_norm)
    x = images(size=8)
    pruned = rewrite(normed, group_space(normed, x).architecture([2]))
    expected = blinded(plain, group_space(plain, x), [2])
    torch.testing.assert_close(run_seeded(pruned, x, False), run_seeded(expected, x, False))


@pytest.mark.parametrize("norm", [weight_norm, parametrizations.weight_norm])
def test_they_are_fitted_as_plain_convs_are(norm) -> None:
    def fitted(model: nn.Module) -> tuple[torch.Tensor, dict[str, float]]:
        net = Supernet(model, group_space(model, x))
        errors = distill(
            net, batches(4), make_task("classification"), devices=Devices.choose("cpu", "no"),
            config=DistillConfig(steps=0, solve_batches=4),
        )  # fmt: skip
        assert torch.equal(run_seeded(net, x, False), run_seeded(model, x, False))
        return run_seeded(net.emit((2,)), x, False), errors["3"]

    x = images(size=8)
    (ours, errors), (theirs, wanted) = map(fitted, twins(norm))
    torch.testing.assert_close(ours, theirs)
    assert errors == pytest.approx(wanted, rel=1e-3)


def test_other_candidates_count_the_lengths_that_go() -> None:
    model, x = network(parametrizations.weight_norm), images(size=8)
    space = search_space(model, x, granularity="group", candidates=["depthwise3x3"])
    replaced = rewrite(model, space.architecture([1]))
    before, after = slot_costs(space)[0]
    gone = measure_cost(model, x).params - measure_cost(replaced, x).params
    assert gone == before.params - after.params
