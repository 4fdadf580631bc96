"""Slots: the convs of a traced model that may change.

The other convs are frozen, each with a reason: see ``frozen.py``.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from torch import fx

from refiner.core.errors import ConfigError
from refiner.core.layers import is_norm
from refiner.graph.channel_groups import ChannelGroup, find_channel_groups
from refiner.graph.conv_spec import ConvSpec, conv_spec
from refiner.graph.frozen import OWN_PADDING, frozen_reasons, pruned_stems
from refiner.graph.gates import Gate
from refiner.graph.narrowing import is_called_once
from refiner.graph.residual_blocks import find_blocks, find_branches
from refiner.graph.skips import Flow, SkipConnection

Granularity: TypeAlias = Literal["conv", "block", "all", "group"]
GRANULARITIES: tuple[Granularity, ...] = ("conv", "block", "all", "group")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvSite:
    """One conv of a slot and the norm that follows it."""

    conv: str
    """Name of the conv module in the model."""
    norm: str | None
    """Name of the norm that follows the conv and is the only reader of its output, if any."""
    spec: ConvSpec
    in_shape: tuple[int, ...] = ()
    """Shape of the conv's input, batch first; empty if unknown.

    Of a traced model it is that for the example input, in a search space that for one sample. There
    the batch is what one sample takes: its frames, patches or regions."""
    out_shape: tuple[int, ...] = ()
    """Shape of its output, likewise."""
    further_parameters: int = 0
    """Number of the conv's parameters beyond those of torch's own conv, as of weight norm."""
    norm_parameters: int = 0
    """Number of the norm's parameters that each belong to one output channel."""
    along: tuple[str, ...] = ()
    """In a channel group: names of further modules with numbers for each channel, such as a PReLU,
    between the norm and the next conv."""
    along_parameters: int = 0
    """Number of their parameters that each belong to one output channel."""
    along_macs: int = 0
    """Multiply-accumulates of the convs among them for one sample of the conv's batch."""
    gates: tuple[Gate, ...] = ()
    """In a channel group: gates on the way to the next conv."""
    unit: int = 1
    """In a channel group: how many output channels stay or go together for norms of groups."""
    is_stem: bool = False
    """Whether it reads the model's input. Such a conv loses channels, and nothing replaces it."""

    @property
    def after(self) -> tuple[str, ...]:
        """Names of the norm, of what is along, and of the layers of gates."""
        gates = [name for gate in self.gates for name in gate.layers]
        return (*([] if self.norm is None else [self.norm]), *self.along, *gates)

    @property
    def alone(self) -> "ConvSite":
        """The conv and its norm, without the way to the next conv."""
        return replace(self, along=(), along_parameters=0, along_macs=0, gates=(), unit=1)

    @property
    def bare(self) -> "ConvSite":
        """The conv without what comes after it."""
        return replace(self.alone, norm=None, norm_parameters=0)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the conv for an input of its shape."""
        each = self.spec.in_channels // self.spec.groups * math.prod(self.spec.kernel_size)
        return math.prod(self.out_shape) * each

    @property
    def macs_after(self) -> int:
        """Multiply-accumulates of what is along and of the gates."""
        return self.out_shape[0] * (self.along_macs + sum(gate.macs for gate in self.gates))

    @property
    def parameters_after(self) -> int:
        """Number of parameters of the norm, of what is along, and of the gates."""
        gates = sum(gate.parameters + gate.other_parameters for gate in self.gates)
        return self.norm_parameters + self.along_parameters + gates


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One conv, the spatial convs of a residual block, or a channel group, which may change."""

    name: str
    sites: tuple[ConvSite, ...]
    """The convs, each with its norm, in the order of the data flow."""
    is_group: bool = False
    """Whether it is a channel group, whose inner channels can be pruned."""
    is_branch: bool = False
    """Whether it is a whole residual branch: all convs beside a skip connection to an add."""
    gate_convs: tuple[ConvSite, ...] = ()
    """The convs of its gates as they would be slots of their own."""

    @property
    def all_convs(self) -> tuple[ConvSite, ...]:
        """Return the convs of all sites and of the gates."""
        return (*self.sites, *self.gate_convs)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all convs, and of what comes after each of them."""
        return sum(site.macs + site.macs_after for site in self.sites)

    @property
    def has_stem(self) -> bool:
        """Whether it is a channel group that begins with a conv on the model's input."""
        return self.sites[0].is_stem

    @property
    def modules(self) -> list[str]:
        """Names of the convs of all sites, and of what comes after each of them."""
        return [name for s in self.sites for name in (s.conv, *s.after)]

    @property
    def output(self) -> str:
        """Name of the module that gives the slot's output: its last norm or conv."""
        return self.sites[-1].norm or self.sites[-1].conv

    def __str__(self) -> str:
        """Return the original convs: ``conv3x3 64->64, conv3x3 64->64``."""
        return ", ".join(str(site.spec) for site in self.sites)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A conv that is not a slot."""

    name: str
    reason: str
    """Why it cannot change, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotTable:
    """The result of :func:`find_slots`, in the order of the data flow."""

    slots: tuple[Slot, ...]
    frozen: tuple[Frozen, ...]
    skips: tuple[SkipConnection, ...]


def check_granularity(granularity: str) -> None:
    """Raise a ConfigError unless ``granularity`` is one of ``GRANULARITIES``."""
    if granularity not in GRANULARITIES:
        raise ConfigError(
            f"unknown slots {granularity!r}. Choose one of: {', '.join(GRANULARITIES)}."
        )


def find_slots(traced: fx.GraphModule, granularity: Granularity = "conv") -> SlotTable:
    """Find the slots, the frozen convs and the skip connections of a traced model.

    Args:
        traced: the result of :func:`refiner.trace`.
        granularity: what a slot is. ``conv``: each spatial conv that is on no skip connection.
            ``block``: the spatial convs of a residual block. ``all``: as ``conv``, with pointwise
            convs. ``group``: as ``all``, with one slot for each channel group. A stem is no slot by
            itself, but a group may begin with it if the next conv is in no other.

    Raises:
        ConfigError: an unknown granularity.
    """
    check_granularity(granularity)
    flow = Flow(traced)
    skips = flow.skip_connections()
    spatial_only = granularity in ("conv", "block")
    reasons = frozen_reasons(flow, [skip for skip, _ in skips], spatial_only)
    training, branches = None, set(find_branches(flow, skips))
    if traced.meta["train_graph"] is not None:  # train mode may run other operations
        training = Flow(traced, traced.meta["train_graph"])
        in_training = training.skip_connections()
        branches &= set(find_branches(training, in_training))
        only = [skip for skip, _ in in_training]
        for name, reason in frozen_reasons(training, only, spatial_only).items():
            reasons.setdefault(name, reason)
    groups, stems = list[ChannelGroup](), set[str]()
    if granularity == "group":
        groups = _groups(flow, training, reasons)
        stems = {group.convs[0] for group in groups} & reasons.keys()
        reasons = {name: reason for name, reason in reasons.items() if name not in stems}
    sites = [_site(flow, node) for node in flow.convs if node.target not in reasons]
    sites = [replace(site, is_stem=site.conv in stems) for site in sites]
    frozen = [
        Frozen(name=name, reason=reasons[name])
        for name in dict.fromkeys((*(n for n, _ in traced.named_modules()), *reasons))
        if name in reasons
    ]
    if granularity == "group":
        slots = _group_slots(flow, sites, groups)
    else:
        names = {site.conv for site in sites}
        together = find_blocks(flow, skips, names) if granularity == "block" else []
        slots = _named_slots(_grouped(sites, together), granularity)
    return SlotTable(
        slots=tuple(replace(slot, is_branch=_is_branch(flow, slot, branches)) for slot in slots),
        frozen=tuple(frozen),
        skips=tuple(skip for skip, _ in skips),
    )


def _groups(flow: Flow, training: Flow | None, reasons: Mapping[str, str]) -> list[ChannelGroup]:
    """Return the channel groups of convs without a reason.

    A stem begins a further group with a conv that is in none without it.
    """
    names = {str(node.target) for node in flow.convs} - reasons.keys()
    padded = {name for name, reason in reasons.items() if reason.endswith(OWN_PADDING)}
    groups = find_channel_groups(flow, training, names, padded)
    free = names.difference(*(group.convs for group in groups))
    stems = pruned_stems(flow, reasons)
    further = find_channel_groups(flow, training, free | stems, padded) if stems else []
    return [*groups, *(group for group in further if group.convs[0] in stems)]


def _site(flow: Flow, node: fx.Node) -> ConvSite:
    users = list(node.users)
    norm, norm_parameters = None, 0
    if len(users) == 1 and users[0].op == "call_module" and is_norm(flow.module(users[0])):
        module = flow.module(users[0])
        if is_called_once(flow, users[0]) and users[0].args == (node,) and not users[0].kwargs:
            norm = str(users[0].target)
            sizes = [p.shape for p in module.parameters(recurse=False)]
            norm_parameters = sum(s.numel() for s in sizes if s == node.meta["shape"][1:2])
    in_shape, out_shape = flow.inputs[node][0].meta["shape"], node.meta["shape"]
    spec = conv_spec(flow.module(node), in_shape, out_shape)
    return ConvSite(
        conv=str(node.target),
        norm=norm,
        spec=spec,
        in_shape=in_shape,
        out_shape=out_shape,
        further_parameters=sum(p.numel() for p in flow.module(node).parameters()) - spec.parameters,
        norm_parameters=norm_parameters,
    )


def _group_slots(
    flow: Flow, sites: Sequence[ConvSite], groups: Sequence[ChannelGroup]
) -> tuple[Slot, ...]:
    """Return a slot for each channel group, with its gates, and for each other conv."""
    by_name = {site.conv: site for site in sites}
    in_gates = set[str]()
    for group in groups:
        for name, stretch in zip(group.convs[:-1], group.stretches, strict=True):
            site = by_name[name]
            along = tuple(each for each in stretch.along if each != site.norm)
            sizes = [p.numel() for each in along for p in flow.modules[each].parameters()]
            count = sum(size for size in sizes if size > 1)
            by_name[name] = replace(
                site,
                along=along,
                along_parameters=count,
                along_macs=stretch.along_macs,
                gates=stretch.gates,
                unit=stretch.unit,
            )
            in_gates |= {name for gate in stretch.gates for name in gate.layers}
    free = [site for name, site in by_name.items() if name not in in_gates]
    slots = _named_slots(_grouped(free, [group.convs for group in groups]), "group")

    def gate_convs(slot: Slot) -> tuple[ConvSite, ...]:
        layers = [name for site in slot.sites for g in site.gates for name in g.layers]
        return tuple(by_name[name] for name in layers if name in by_name)

    return tuple(replace(slot, gate_convs=gate_convs(slot)) for slot in slots)


def _is_branch(flow: Flow, slot: Slot, branches: Collection[tuple[str, ...]]) -> bool:
    """Return whether a slot is a whole branch after whose convs all parameters are counted."""
    convs = {site.conv for site in slot.all_convs}
    return any(convs == set(branch) for branch in branches) and all(
        sum(p.numel() for name in site.after for p in flow.modules[name].parameters())
        == site.parameters_after
        for site in slot.sites
    )


def singles(slot: Slot) -> Iterator[Slot]:
    """Yield a slot for each conv of a group but a stem, without the way from one to the next."""
    spare = {site.conv: site for site in slot.gate_convs}
    for site in slot.sites:
        layers = [name for gate in site.gates for name in gate.layers]
        of_gates = [spare[name] for name in layers if name in spare]
        free = [*([] if site.is_stem else [site]), *of_gates]
        yield from (Slot(name=each.conv, sites=(each.alone,)) for each in free)


def _grouped(
    sites: Sequence[ConvSite], together: Iterable[tuple[str, ...]]
) -> list[list[ConvSite]]:
    """Group sites by the names of convs that change together; any other site stands alone."""
    by_name = {site.conv: site for site in sites}
    group_of = {name: names for names in together for name in names}
    groups = dict.fromkeys(group_of.get(site.conv, (site.conv,)) for site in sites)
    return [[by_name[name] for name in names] for names in groups]


def _named_slots(groups: list[list[ConvSite]], granularity: Granularity) -> tuple[Slot, ...]:
    """Return slots, each named after its conv or after the common prefix of its modules.

    A channel group whose prefix other slots share is named after its first conv.
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
