"""Weight norm: a conv whose weight torch computes from directions and lengths."""

from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from refiner.core.layers import weight_of
from refiner.core.surgery import copied

_WEIGHT = "weight"


def has_weight_norm(module: nn.Module) -> bool:
    """Return whether torch computes a module's weight by weight norm alone, old or new."""
    if parametrize.is_parametrized(module):
        assert isinstance(module.parametrizations, nn.ModuleDict)
        steps = [step for each in module.parametrizations.values() for step in each.children()]
        kinds = [isinstance(step, parametrizations._WeightNorm) for step in steps]
        return list(module.parametrizations) == [_WEIGHT] and kinds == [True]
    return any(
        isinstance(hook, WeightNorm) and hook.name == _WEIGHT
        for hook in module._forward_pre_hooks.values()
    )


def plain_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module that has its weight as a plain parameter."""
    work = copied(module)
    if not has_weight_norm(work):
        return work
    learns = any(parameter.requires_grad for parameter in work.parameters())
    if parametrize.is_parametrized(work):
        # torch's own function would take the weight from the class, which the original shares.
        weight = weight_of(work).detach().clone()
        del work._modules["parametrizations"]
        work.__class__ = parametrize.type_before_parametrizations(module)
        work.register_parameter(_WEIGHT, nn.Parameter(weight))
    else:
        remove_weight_norm(work)
    weight_of(work).requires_grad_(learns)
    return work


def with_plain_weight(module: nn.Module) -> nn.Module:
    """Return the module itself where its weight is plain, and a plain copy where it is not."""
    return plain_copy(module) if has_weight_norm(module) else module
