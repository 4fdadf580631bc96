"""Whether pruned networks are what they should be, for several tests."""

import torch
from models import PRUNING_CANDIDATES, run_seeded
from torch import nn

from refiner.core.surgery import copied
from refiner.cost.costs import measure_cost, slot_costs
from refiner.space.candidates import get_candidate
from refiner.space.channel_pruning import inner_channels_of, kept_channels
from refiner.space.rewriting import rewrite
from refiner.space.search_space import SearchSpace, search_space


def group_space(model: nn.Module, x: torch.Tensor) -> SearchSpace:
    return search_space(model, x, granularity="group", candidates=PRUNING_CANDIDATES)


def blinded(model: nn.Module, space: SearchSpace, vector: list[int]) -> nn.Module:
    """Return the model with all channels, in which nothing reads those that the pruned one lacks."""
    work = copied(model)
    modules = dict(model.named_modules())
    for slot, names, k in zip(space.slots, space.candidates, vector, strict=True):
        if k == 0:
            continue
        for inner, kept in zip(
            inner_channels_of(slot),
            kept_channels(slot, get_candidate(names[k]).keep_ratio, modules),
            strict=True,
        ):
            gates = [gate.reduce for i in inner[:-1] for gate in slot.sites[i].gates]
            for reader in filter(None, (slot.sites[inner[-1]].conv, *gates)):
                weight = work.get_submodule(reader).weight
                unread = torch.ones(weight.shape[1], dtype=torch.bool)
                unread[kept] = False
                with torch.no_grad():
                    weight[:, unread] = 0
    return work


def warmed(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Give all norms scales and statistics of their own."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.affine:
            module.weight.data = torch.rand(module.num_features, generator=generator) + 0.5
            module.bias.data = torch.randn(module.num_features, generator=generator)
    run_seeded(model, x, training=True)
    return model


def assert_pruned_is_blinded(model: nn.Module, x: torch.Tensor, seed: int) -> SearchSpace:
    space = group_space(model, x)
    generator = torch.Generator().manual_seed(seed)
    vector = [int(torch.randint(len(n), (), generator=generator)) for n in space.candidates]
    pruned_model = rewrite(model, space.architecture(vector))
    for training in (False, True):
        expected = run_seeded(blinded(model, space, vector), x, training)
        assert torch.allclose(run_seeded(pruned_model, x, training), expected, atol=1e-4, rtol=1e-3)
    before, after = measure_cost(model, x), measure_cost(pruned_model, x)
    swapped = [(row[k], row[0]) for row, k in zip(slot_costs(space), vector, strict=True)]
    assert after.macs == before.macs + sum(new.macs - old.macs for new, old in swapped)
    assert after.params == before.params + sum(new.params - old.params for new, old in swapped)
    return space
