"""Which modules can lose channels without a change to what the others compute."""

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


def is_called_once(flow: Flow, node: fx.Node) -> bool:
    """Return whether the module of a call has no other call."""
    module = flow.module(node)
    calls = [n for n in flow.all_nodes if n.op == "call_module" and flow.module(n) is module]
    return len(calls) == 1


def has_no_numbers(flow: Flow, node: fx.Node) -> bool:
    """Return whether a call is of an operation, or of a module without a number per channel."""
    if node.op != "call_module":
        return True
    return all(tensor.numel() <= 1 for tensor in flow.module(node).state_dict().values())


def keeps_channels_apart(module: nn.Module, channels: int) -> bool:
    """Return whether each tensor of a module holds one number, or one for each channel.

    A norm, a PReLU, or a wrapper of such a module may be one. Whether it keeps channels apart, a
    run shows later.
    """
    if any(isinstance(part, (nn.GroupNorm, nn.LayerNorm)) for part in module.modules()):
        return False
    return all(
        tensor.numel() == 1 or (tensor.shape[:1] == (channels,) and tensor.numel() == channels)
        for tensor in (*module.parameters(), *module.buffers())
    )
