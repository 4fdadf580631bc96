"""Slots: the convs of a traced model that may change, and the frozen ones that may not.

The convs on skip connections (see skips.py) are frozen, as are those that no candidate can stand
in for.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import fx, nn

from refiner.core.errors import ConfigError
from refiner.core.layers import CONV_TYPES, is_conv, is_norm
from refiner.graph.channel_groups import find_channel_groups
from refiner.graph.conv_spec import ConvSpec, conv_spec, is_plain_conv
from refiner.graph.residual_blocks import find_blocks
from refiner.graph.skips import Flow, LocatedSkip, SkipConnection, kernel_volume

Granularity: TypeAlias = Literal["conv", "block", "all", "group"]
GRANULARITIES: tuple[Granularity, ...] = ("conv", "block", "all", "group")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvSite:
    """One conv of a slot and the norm that follows it."""

    conv: str
    """Name of the conv module in the model."""
    norm: str | None
    """Name of the norm that alone reads the conv's output, if there is one."""
    spec: ConvSpec
    in_shape: tuple[int, ...] = ()
    """Shape of the conv's input, batch first, on the example input; empty if not known."""
    out_shape: tuple[int, ...] = ()
    norm_parameters: int = 0
    """Number of the norm's parameters that belong to one output channel each."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the conv for one sample of the example input."""
        each = self.spec.in_channels // self.spec.groups * math.prod(self.spec.kernel_size)
        return math.prod(self.out_shape[1:]) * each


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What changes together: a conv, the spatial convs of a residual block, or a channel group."""

    name: str
    sites: tuple[ConvSite, ...]
    is_group: bool = False
    """Whether the sites are a group, between whose convs there may be fewer channels; see
    groups.py."""

    @property
    def modules(self) -> list[str]:
        """Names of the convs and norms of all sites."""
        return [name for s in self.sites for name in (s.conv, s.norm) if name]

    def __str__(self) -> str:
        """Return the original convs: ``conv3x3 64->64, conv3x3 64->64``."""
        return ", ".join(str(site.spec) for site in self.sites)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A conv that is no slot, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotTable:
    """What :func:`find_slots` found, in the order in which data flows."""

    slots: tuple[Slot, ...]
    frozen: tuple[Frozen, ...]
    skips: tuple[SkipConnection, ...]


def check_granularity(granularity: str) -> None:
    """Raise a ConfigError unless ``granularity`` is one."""
    if granularity not in GRANULARITIES:
        raise ConfigError(
            f"unknown slots {granularity!r}. Choose one of: {', '.join(GRANULARITIES)}."
        )


def find_slots(traced: fx.GraphModule, granularity: Granularity = "conv") -> SlotTable:
    """Find the slots, the frozen convs and the skip connections of a traced model.

    Args:
        traced: what :func:`refiner.trace` returned.
        granularity: ``conv`` makes each spatial conv off the skip connections a slot; ``block``
            changes the spatial convs of one residual block together; ``all`` is ``conv`` with the
            pointwise convs as well; ``group`` has those of ``all``, convs that are a group being
            one slot.

    Raises:
        ConfigError: an unknown granularity.
    """
    check_granularity(granularity)
    flow = Flow(traced)
    skips = flow.skip_connections()
    reasons = _frozen_reasons(flow, skips, granularity)
    training = None
    if traced.meta["train_graph"] is not None:  # train mode may go other ways
        training = Flow(traced, traced.meta["train_graph"])
        in_training = training.skip_connections()
        for name, reason in _frozen_reasons(training, in_training, granularity).items():
            reasons.setdefault(name, reason)
    sites = [_site(flow, node) for node in flow.convs if node.target not in reasons]
    frozen = [
        Frozen(name=name, reason=reasons[name])
        for name in dict.fromkeys((*(n for n, _ in traced.named_modules()), *reasons))
        if name in reasons
    ]
    names, together = {site.conv for site in sites}, list[tuple[str, ...]]()
    if granularity == "block":
        together = find_blocks(flow, skips, names)
    elif granularity == "group":
        together = find_channel_groups(flow, training, names)
    return SlotTable(
        slots=_named_slots(_grouped(sites, together), granularity),
        frozen=tuple(frozen),
        skips=tuple(edge for edge, _ in skips),
    )


def _frozen_reasons(
    flow: Flow, skips: Sequence[LocatedSkip], granularity: Granularity
) -> dict[str, str]:
    """Return why each conv that cannot be a slot is frozen, by the conv's name."""
    projections = {name: edge for edge, _ in skips for name in edge.convs}
    calls: dict[int, list[fx.Node]] = {}
    for node in flow.all_nodes:
        if node.op == "call_module":
            calls.setdefault(id(flow.module(node)), []).append(node)
    read_elsewhere = {
        str(node.target).rpartition(".")[0] for node in flow.all_nodes if node.op == "get_attr"
    }
    owners: dict[int, list[str]] = {}
    for name, module in flow.modules.items():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    called = {str(node.target): node for node in flow.convs}
    reasons = _other_convolutions(flow)
    for name, module in flow.modules.items():
        if not is_conv(module):
            continue
        node = called.get(name)
        if name in read_elsewhere:
            reason = "its weight is read outside its own call"
        elif node is None:
            reason = _not_called(flow, name, calls)
        elif len(calls[id(module)]) > 1:
            reason = "called more than once in a forward pass"
        elif tied := _tied(flow, name, owners):
            reason = f"shares its weight with {tied}"
        elif not flow.trains(name):
            reason = "not called in train mode"
        elif not flow.learns(name):
            reason = "called with gradients off"
        elif not any(p.requires_grad for p in module.parameters()):
            reason = "its parameters take no gradient"
        elif _has_hooks(module):
            reason = "has hooks, which a replacement would lose"
        elif name in projections:
            reason = f"projection on the skip connection to {projections[name].join}"
        else:
            reason = _unfit(flow, node, granularity)
        if reason:
            reasons[name] = reason
    return reasons


def _has_hooks(module: nn.Module) -> bool:
    """Return whether a module has hooks other than those by which torch computes its weight."""
    before = [h for h in module._forward_pre_hooks.values() if not _computes_weight(h)]
    backward = (*module._backward_hooks.values(), *module._backward_pre_hooks.values())
    return bool(before or backward or module._forward_hooks)


def _computes_weight(hook: object) -> bool:
    return type(hook).__module__.startswith("torch.nn.utils")


def _tied(flow: Flow, name: str, owners: dict[int, list[str]]) -> str:
    """Return another module that holds a parameter of this one, or an empty string."""
    parameters = flow.modules[name].parameters(recurse=False)
    others = (owner for p in parameters for owner in owners[id(p)])
    return next((o for o in others if flow.modules[o] is not flow.modules[name]), "")


def _not_called(flow: Flow, name: str, calls: dict[int, list[fx.Node]]) -> str:
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        parent = flow.modules.get(".".join(parts[:end]))
        if parent is not None and id(parent) in calls:
            return f"inside {'.'.join(parts[:end])} ({type(parent).__name__}), a conv itself"
    if id(flow.modules[name]) in calls:
        if any(m is flow.modules[name] and n != name for n, m in flow.modules.items()):
            return "shared with another name"
        return "reads nothing that comes from the model's input"
    return "called in train mode alone" if flow.trains(name) else "not called on the example input"


def _other_convolutions(flow: Flow) -> dict[str, str]:
    """Return why each convolution that runs outside of torch's conv modules stays, by its place."""
    reasons = {}
    for node in flow.all_nodes:
        if not node.meta.get("convolves"):
            continue
        if node.op == "call_module":
            kind = type(flow.module(node)).__name__
            reasons[str(node.target)] = f"{kind} convolves in its own way"
        else:
            owners = {
                str(a.target).rpartition(".")[0] for a in node.all_input_nodes if a.op == "get_attr"
            }
            if not any(is_conv(flow.modules[o]) for o in owners if o in flow.modules):
                reasons[flow.labels[node]] = "functional convolution"
    return reasons


def _unfit(flow: Flow, node: fx.Node, granularity: Granularity) -> str:
    """Return why a conv that is called once, off the skips, is no slot; empty if it is one."""
    conv = flow.module(node)
    if not isinstance(conv, CONV_TYPES):
        return "transposed conv"
    if not any(flow.reaches(c, node) for c in flow.convs if c is not node):
        return "stem: reads the model's input"
    if kernel_volume(conv) == 1 and granularity in ("conv", "block"):
        return "pointwise conv: nothing spatial to replace"
    if len(flow.inputs[node]) != 1 or node.kwargs or len(node.args) != 1:
        return "called with more than its input"
    in_shape, out_shape = flow.inputs[node][0].meta["shape"], node.meta["shape"]
    if in_shape is None or len(in_shape) != len(conv.kernel_size) + 2:
        return "its input has no batch dimension"
    spec = conv_spec(conv, in_shape, out_shape)
    if conv.weight.dtype.is_complex:
        return "its numbers are complex"
    expected = (in_shape[0], spec.out_channels, *spec.output_size(in_shape[2:]))
    if out_shape != expected:
        return f"{type(conv).__name__} computes its own padding"
    if type(conv) not in CONV_TYPES and not is_plain_conv(conv, spec, in_shape):
        return f"{type(conv).__name__} computes more than a conv"
    return ""


def _site(flow: Flow, node: fx.Node) -> ConvSite:
    users = list(node.users)
    norm, norm_parameters = None, 0
    if len(users) == 1 and users[0].op == "call_module" and is_norm(flow.module(users[0])):
        module = flow.module(users[0])
        called = [n for n in flow.all_nodes if n.op == "call_module" and flow.module(n) is module]
        if len(called) == 1 and users[0].args == (node,) and not users[0].kwargs:
            norm = str(users[0].target)
            each = [
                p for p in module.parameters(recurse=False) if p.shape == node.meta["shape"][1:2]
            ]
            norm_parameters = sum(p.numel() for p in each)
    in_shape, out_shape = flow.inputs[node][0].meta["shape"], node.meta["shape"]
    return ConvSite(
        conv=str(node.target),
        norm=norm,
        spec=conv_spec(flow.module(node), in_shape, out_shape),
        in_shape=in_shape,
        out_shape=out_shape,
        norm_parameters=norm_parameters,
    )


def _grouped(
    sites: Sequence[ConvSite], together: Iterable[tuple[str, ...]]
) -> list[list[ConvSite]]:
    """Group sites by the names of convs that change together; one among none of them stands
    alone."""
    by_name = {site.conv: site for site in sites}
    group_of = {name: names for names in together for name in names}
    groups = dict.fromkeys(group_of.get(site.conv, (site.conv,)) for site in sites)
    return [[by_name[name] for name in names] for names in groups]


def _named_slots(groups: list[list[ConvSite]], granularity: Granularity) -> tuple[Slot, ...]:
    """Name a slot after its conv or, of a block or a group, after what its modules share.

    A group that shares this with convs of other slots is named after its first conv.
    """
    names: list[str] = []
    all_convs = [site.conv for group in groups for site in group]
    for group in groups:
        modules = [name for site in group for name in (site.conv, site.norm) if name is not None]
        name = _common_prefix(modules)
        if granularity != "block":
            below = sum(conv.startswith(f"{name}.") for conv in all_convs)
            name = name if below == len(group) > 1 else group[0].conv
        names.append(name if name and name not in names else group[0].conv)
    return tuple(
        Slot(name=name, sites=tuple(group), is_group=granularity == "group" and len(group) > 1)
        for name, group in zip(names, groups, strict=True)
    )


def _common_prefix(names: Sequence[str]) -> str:
    parts = [name.split(".") for name in names]
    shared = 0
    while all(len(p) > shared and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    return ".".join(parts[0][:shared])
