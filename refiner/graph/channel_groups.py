"""Channel groups: runs of convs whose inner channels can be pruned.

Each conv of a group is the only reader of the conv before it. Between two dense convs stand only
depthwise convs, operations without parameters, and modules with numbers for each channel, such as
norms and PReLUs. So inner channels, those between the convs, can be removed without any change to
the rest of the network. Names do not show whether an operation keeps channels apart, so
``probes.py`` of the space runs the network with pruned channels and drops each group that fails.
"""

from collections.abc import Collection
from typing import TypeGuard

from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from refiner.core.layers import CONV_TYPES
from refiner.graph.conv_spec import ConvSpec
from refiner.graph.skips import Flow

MOST_CONVS = 3
"""Most dense convs of a group: the three of a bottleneck. A longer run of convs is cut where the
channels are fewest. So is a run in which some inner channels are less than half as many as others,
for example at the end of an inverted residual block that the next block reads."""


def find_channel_groups(
    flow: Flow, training: Flow | None, names: Collection[str]
) -> list[tuple[str, ...]]:
    """Return the groups of two or more of the named convs, in the order of the data flow.

    Args:
        flow: data flow in eval mode.
        training: data flow in train mode, if known. A group has to be one in both modes.
        names: names of the convs that may change.
    """
    readers = _readers(flow, names)
    if training is not None:
        also = _readers(training, names)
        readers = {start: convs for start, convs in readers.items() if also.get(start) == convs}
    ends = {convs[-1] for convs in readers.values()}
    groups = []
    for start in readers:
        if start not in ends:
            group: list[tuple[str, ...]] = [(start,)]
            while group[-1][-1] in readers:
                group.append(readers[group[-1][-1]])
            groups += _pieces(flow, group)
    return groups


def _readers(flow: Flow, names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the convs that read each dense conv's channels: depthwise ones, then a dense one.

    A dense conv whose channels cannot be pruned is left out.
    """
    readers = {}
    live = flow.live()
    for node in flow.convs:
        if str(node.target) in names and _is_dense(flow.module(node)):
            convs = _readers_of(flow, node, names, live)
            if convs:
                readers[str(node.target)] = convs
    return readers


def _readers_of(
    flow: Flow, node: fx.Node, names: Collection[str], live: set[fx.Node]
) -> tuple[str, ...]:
    """Return the convs that read a dense conv's channels, empty if these cannot be pruned."""
    channels = node.meta["shape"][1]
    passed: list[str] = []
    while True:
        users = [user for user in node.users if user in live]
        if len(users) != 1:
            return ()
        (user,) = users
        if flow.inputs.get(user) != [node] or list(user.all_input_nodes) != [node]:
            return ()
        if flow.calls_conv(user):
            name, conv = str(user.target), flow.module(user)
            passed.append(name)
            if name not in names or not _has_plain_weight(conv):
                return ()
            if _is_dense(conv):
                return tuple(passed)
            if not is_depthwise(conv):
                return ()
        elif user.op == "call_module" and not (
            _has_no_numbers(flow.module(user))
            or (is_called_once(flow, user) and _keeps_channels_apart(flow.module(user), channels))
        ):
            return ()
        shape = user.meta["shape"]
        if shape is None or len(shape) < 3 or shape[1] != channels:
            return ()
        node = user


def modules_along(flow: Flow, name: str) -> list[fx.Node]:
    """Return the calls of modules with numbers between a conv of a group and the next conv."""
    (node,) = [n for n in flow.convs if n.target == name]
    live, found = flow.live(), list[fx.Node]()
    while True:
        (node,) = [user for user in node.users if user in live]
        if flow.calls_conv(node):
            return found
        if node.op == "call_module" and not _has_no_numbers(flow.module(node)):
            found.append(node)


def is_called_once(flow: Flow, node: fx.Node) -> bool:
    """Return whether the module of a call has no other call."""
    module = flow.module(node)
    calls = [n for n in flow.all_nodes if n.op == "call_module" and flow.module(n) is module]
    return len(calls) == 1


def _is_dense(conv: nn.Module) -> bool:
    return _has_plain_weight(conv) and conv.groups == 1


def _has_no_numbers(module: nn.Module) -> bool:
    """Return whether no parameter or buffer of a module could have one number per channel."""
    return all(tensor.numel() <= 1 for tensor in module.state_dict().values())


def _keeps_channels_apart(module: nn.Module, channels: int) -> bool:
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


def is_depthwise(conv: _ConvNd | ConvSpec) -> bool:
    """Return whether a conv computes each output channel from one input channel of its own."""
    return 1 < conv.groups == conv.in_channels == conv.out_channels


def _has_plain_weight(conv: nn.Module) -> TypeGuard[_ConvNd]:
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


def _pieces(flow: Flow, group: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the groups that a run of convs is cut into.

    Args:
        flow: data flow in eval mode.
        group: the first conv alone, then the convs that read each set of inner channels.
    """
    if len(group) == 1:
        return []
    widths = [flow.modules[convs[-1]].in_channels for convs in group[1:]]
    if len(group) <= MOST_CONVS and 2 * min(widths) >= max(widths):
        return [tuple(name for convs in group for name in convs)]
    middle = (len(widths) - 1) / 2
    cut = 1 + min(range(len(widths)), key=lambda i: (widths[i], abs(i - middle)))
    rest = [group[cut][-1:], *group[cut + 1 :]]  # depthwise convs at the cut belong to no group
    return [*_pieces(flow, group[:cut]), *_pieces(flow, rest)]
