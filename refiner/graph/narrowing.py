"""Which modules can lose channels without a change to what the others compute."""

import math
from typing import TypeGuard

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from refiner.core.layers import CONV_TYPES
from refiner.core.weight_norm import has_weight_norm
from refiner.graph.conv_spec import ConvSpec
from refiner.graph.skips import Flow


def is_dense(conv: nn.Module) -> bool:
    """Return whether a conv can be cut, and computes each output from all of its inputs."""
    return can_be_cut(conv) and conv.groups == 1


def keeps_groups_apart(conv: _ConvNd | ConvSpec) -> bool:
    """Return whether a conv computes each of several groups of channels from as many of its own.

    A depthwise conv does so for single channels.
    """
    return conv.groups > 1 and conv.in_channels == conv.out_channels


def is_depthwise(conv: nn.Module) -> TypeGuard[_ConvNd]:
    """Return whether a conv with a plain weight computes each channel from itself alone."""
    return has_plain_weight(conv) and conv.groups == conv.in_channels == conv.out_channels


def has_plain_weight(conv: nn.Module) -> TypeGuard[_ConvNd]:
    """Return whether a conv has a plain weight, a bias at most and nothing else to cut.

    Subclasses that pad in their own way are such convs.
    """
    own = {id(conv._parameters.get(name)) for name in ("weight", "bias")}
    tensors = [*conv.parameters(), *conv.buffers()]
    return (
        isinstance(conv, CONV_TYPES)
        and "weight" in conv._parameters
        and all(id(tensor) in own for tensor in tensors)
    )


def can_be_cut(conv: nn.Module) -> TypeGuard[_ConvNd]:
    """Return whether a conv has a plain weight, or has one once its weight norm is multiplied out.

    It has no further tensors but a bias.
    """
    if not has_weight_norm(conv):
        return has_plain_weight(conv)
    names = [name for name, _ in (*conv.named_parameters(), *conv.named_buffers())]
    return isinstance(conv, CONV_TYPES) and len({*names, "bias"}) == 3


def is_plain_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Return whether a module is torch's own linear layer, with a plain weight and no hooks."""
    return type(module) is nn.Linear and not (module._forward_pre_hooks or module._forward_hooks)


def is_called_once(flow: Flow, node: fx.Node) -> bool:
    """Return whether the module of a call has no other call."""
    module = flow.module(node)
    calls = [n for n in flow.all_nodes if n.op == "call_module" and flow.module(n) is module]
    return len(calls) == 1


def owns_its_parameters(flow: Flow, module: nn.Module) -> bool:
    """Return whether no other module holds a parameter of this one."""
    own = {id(parameter) for parameter in module.parameters(recurse=False)}
    others = (other for other in flow.modules.values() if other is not module)
    return all(id(p) not in own for other in others for p in other.parameters(recurse=False))


def has_no_numbers(flow: Flow, node: fx.Node) -> bool:
    """Return whether a call is of an operation, or of a module without a number per channel.

    A group norm has a number of groups even where it has no parameters.
    """
    if node.op != "call_module":
        return True
    module = flow.module(node)
    return not any(isinstance(part, nn.GroupNorm) for part in module.modules()) and all(
        tensor.numel() <= 1 for tensor in module.state_dict().values()
    )


def unit_of(module: nn.Module, channels: int) -> int:
    """Return how many channels of a module stay or go together, 0 if none can go.

    It is 1 where each tensor holds one number, or one for each channel, as those of a norm, a PReLU
    or a wrapper of such a module. A group norm takes statistics of its groups one by one, so whole
    groups can go. A layer norm takes them of all channels, so none can: those that stay would have
    other values. A depthwise conv has weights for each channel. Whether other modules keep channels
    apart, a run shows later.
    """
    if is_depthwise(module):
        return 1 if module.out_channels == channels else 0
    parts = list(module.modules())
    norms = [part for part in parts if isinstance(part, nn.GroupNorm)]
    apart = all(
        tensor.numel() == 1 or (tensor.shape[:1] == (channels,) and tensor.numel() == channels)
        for tensor in (*module.parameters(), *module.buffers())
    )
    if any(isinstance(part, nn.LayerNorm) for part in parts) or not apart:
        return 0
    unit = math.lcm(*(norm.num_channels // norm.num_groups for norm in norms))
    return 0 if unit == channels > 1 else unit
