"""Channel groups: convs each of which alone reads what the one before it gives, channel by channel.

Between two of them stand a norm, depthwise convs and operations without parameters, so channels between
them can go without the rest of the network being told. That these keep channels apart is not read off
their names: pruning.py runs the network with channels gone, and a group that this breaks is none.
"""

from collections.abc import Collection
from typing import Any

from torch import fx, nn

from refiner.core.layers import CONV_TYPES, is_norm
from refiner.graph.skips import Flow

MOST_CONVS = 3
"""Of a group, depthwise ones not counted: the three of a bottleneck. A longer run of convs is cut where it is
narrowest, and so is one with a link that is less than half as wide as another, such as the end of an inverted
residual block that the next one reads."""


def find_channel_groups(
    flow: Flow, training: Flow | None, names: Collection[str]
) -> list[tuple[str, ...]]:
    """Return the groups of two convs or more among the convs of those names, in the order of data.

    Args:
        flow: of eval mode.
        training: of train mode, where it is known; a group has to be one there as well.
        names: of convs that may change.
    """
    links = _links(flow, names)
    if training is not None:
        also = _links(training, names)
        links = {start: link for start, link in links.items() if also.get(start) == link}
    ends = {link[-1] for link in links.values()}
    groups = []
    for start in links:
        if start not in ends:
            group: list[tuple[str, ...]] = [(start,)]
            while group[-1][-1] in links:
                group.append(links[group[-1][-1]])
            groups += _pieces(flow, group)
    return groups


def _links(flow: Flow, names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return, of each dense conv that begins a link, the depthwise convs on it and the conv that ends it."""
    links = {}
    live = _live(flow)
    for node in flow.convs:
        if str(node.target) in names and _is_dense(flow.module(node)):
            link = _link(flow, node, names, live)
            if link:
                links[str(node.target)] = link
    return links


def _live(flow: Flow) -> set[fx.Node]:
    """Return the nodes that the output comes from; autograd makes others, which nothing reads."""
    waiting = [node for node in flow.all_nodes if node.op == "output"]
    live: set[fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in live:
            live.add(node)
            waiting += [*node.all_input_nodes, *node.meta.get("after", ())]
    return live


def _link(flow: Flow, node: fx.Node, names: Collection[str], live: set[fx.Node]) -> tuple[str, ...]:
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
            if name not in names or not _has_own_weight(conv):
                return ()
            if _is_dense(conv):
                return tuple(passed)
            if not is_depthwise(conv):
                return ()
        elif user.op == "call_module" and not (
            # Of what has numbers a norm alone can be cut, and it has to be the site's own.
            _has_no_numbers(flow.module(user))
            or (flow.calls_conv(node) and _keeps_channels_apart(flow.module(user), channels))
        ):
            return ()
        shape = user.meta["shape"]
        if shape is None or len(shape) < 3 or shape[1] != channels:
            return ()
        node = user


def _is_dense(conv: Any) -> bool:
    return _has_own_weight(conv) and conv.groups == 1


def _has_no_numbers(module: nn.Module) -> bool:
    """Return whether a module holds none that a channel could have for itself."""
    return all(tensor.numel() <= 1 for tensor in module.state_dict().values())


def _keeps_channels_apart(norm: nn.Module, channels: int) -> bool:
    """Return whether a module is a norm with one number of each kind for each channel, or for all of them."""
    if not is_norm(norm) or isinstance(norm, (nn.GroupNorm, nn.LayerNorm)):
        return False
    own = [*norm.parameters(recurse=False), *norm.buffers(recurse=False)]
    rest = [*norm.parameters(), *norm.buffers()]
    each = {id(tensor) for tensor in own if tensor.shape == (channels,)}
    return all(id(tensor) in each or tensor.numel() == 1 for tensor in rest)


def is_depthwise(conv: Any) -> bool:
    """Return whether each channel that a conv, or a conv of a spec, gives is made of one of its input alone."""
    return bool(1 < conv.groups == conv.in_channels == conv.out_channels)


def _has_own_weight(conv: nn.Module) -> bool:
    """Return whether a conv is one of torch's with a plain weight, of which channels can be cut."""
    return type(conv) in CONV_TYPES and "weight" in conv._parameters


def _pieces(flow: Flow, group: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the groups that a run of convs, given as its first one and its links, is cut into."""
    if len(group) == 1:
        return []
    widths = [flow.modules[link[-1]].in_channels for link in group[1:]]
    if len(group) <= MOST_CONVS and 2 * min(widths) >= max(widths):
        return [tuple(name for link in group for name in link)]
    middle = (len(widths) - 1) / 2
    cut = 1 + min(range(len(widths)), key=lambda i: (widths[i], abs(i - middle)))
    rest = [group[cut][-1:], *group[cut + 1 :]]  # depthwise convs on the link stand alone
    return [*_pieces(flow, group[:cut]), *_pieces(flow, rest)]
