"""Channel pruning: fewer inner channels in a channel group, whose input and output stay the same.

Inner channels lie between one dense conv and the next. The pruned convs, and the modules after
them, are cut out of the originals. So the next conv reads the same values of the channels that
stay. Where a grouped conv is among them, channels stay or go by whole groups. The size of the
weights decides which channels stay. Distillation of a trained network chooses better; see
``distill/channel_elimination.py``.

Source: Li et al., Pruning Filters for Efficient ConvNets, 2017.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import nn

from refiner.core.layers import CONV_TYPES, weight_of
from refiner.core.weight_norm import plain_copy, with_plain_weight
from refiner.graph.conv_spec import ConvSpec
from refiner.graph.narrowing import is_depthwise, keeps_groups_apart
from refiner.graph.slots import ConvSite, Slot
from refiner.space.keep_ratios import width_at


def inner_channels_of(slot: Slot) -> list[tuple[int, ...]]:
    """Return the sites that share each set of inner channels of a group.

    Each tuple holds the indices of a dense conv, the grouped convs after it, and the next dense
    conv, which reads the channels. A slot that is not a channel group has none.
    """
    dense = [i for i, site in enumerate(slot.sites) if not keeps_groups_apart(site.spec)]
    return [tuple(range(start, end + 1)) for start, end in pairwise(dense)] if slot.is_group else []


def inner_widths(slot: Slot) -> tuple[int, ...]:
    """Return how many channels each set of inner channels of a group has."""
    return tuple(slot.sites[inner[0]].spec.out_channels for inner in inner_channels_of(slot))


def inner_units(slot: Slot) -> tuple[int, ...]:
    """Return how many channels of each set of a group stay or go together: 1, or whole groups."""
    return tuple(
        math.lcm(
            *(_of_one_group(slot.sites[i].spec) for i in inner[1:-1]),
            *(slot.sites[i].unit for i in inner[:-1]),
        )
        for inner in inner_channels_of(slot)
    )


def _of_one_group(spec: ConvSpec) -> int:
    return spec.in_channels // spec.groups


def widths(slot: Slot, keep_ratio: float) -> tuple[int, ...]:
    """Return how many of each set of inner channels stay at a keep ratio, rounded down."""
    return tuple(
        unit * width_at(channels // unit, keep_ratio)
        for channels, unit in zip(inner_widths(slot), inner_units(slot), strict=True)
    )


def pruned_sites(slot: Slot, keep_ratio: float) -> tuple[ConvSite, ...]:
    """Return the sites of a group with the share ``keep_ratio`` of their inner channels."""
    sites = list(slot.sites)
    for inner, few in zip(inner_channels_of(slot), widths(slot, keep_ratio), strict=True):
        for i in inner[:-1]:  # these give the channels
            site = sites[i]
            sites[i] = replace(
                site,
                spec=replace(site.spec, out_channels=few),
                out_shape=(*site.out_shape[:1], few, *site.out_shape[2:]),
                further_parameters=0,
                norm_parameters=site.norm_parameters * few // site.spec.out_channels,
                along_parameters=site.along_parameters * few // site.spec.out_channels,
                along_macs=site.along_macs * few // site.spec.out_channels,
                gates=tuple(g.with_channels(few, site.spec.out_channels) for g in site.gates),
            )
        for i in inner[1:]:  # these read them
            site = sites[i]
            groups = few // _of_one_group(site.spec) if i != inner[-1] else 1
            sites[i] = replace(
                site,
                spec=replace(site.spec, in_channels=few, groups=groups),
                in_shape=(*site.in_shape[:1], few, *site.in_shape[2:]),
                further_parameters=0,
            )
    return tuple(sites)


def kept_channels(
    slot: Slot, keep_ratio: float, modules: Mapping[str, nn.Module]
) -> tuple[torch.Tensor, ...]:
    """Return the indices of the most important inner channels of each set, in order.

    A channel's importance is the length of the weights that read it, times the scale that a norm
    right after its conv gives it. Without one, that factor is the length of the weights that make
    it.
    """
    kept = []
    sets = zip(inner_channels_of(slot), widths(slot, keep_ratio), inner_units(slot), strict=True)
    for inner, few, unit in sets:
        reader = with_plain_weight(modules[slot.sites[inner[-1]].conv])
        reads = weight_of(reader).transpose(0, 1).flatten(1).norm(dim=1)
        before = slot.sites[inner[-2]]
        scale = getattr(modules[before.norm], "weight", None) if before.norm else None
        if scale is None:
            scale = weight_of(with_plain_weight(modules[before.conv])).flatten(1).norm(dim=1)
        counts = reads.detach() * scale.detach().abs().to(reads)
        if counts.is_meta:
            kept.append(torch.arange(few))
        else:
            of_units = counts.unflatten(0, (-1, unit)).norm(dim=1)
            best = of_units.argsort(descending=True, stable=True)[: few // unit]
            kept.append(channels_of(best.sort().values.cpu(), unit))
    return tuple(kept)


def channels_of(units: torch.Tensor, unit: int) -> torch.Tensor:
    """Return the numbers of the channels in some units of so many channels each."""
    return (unit * units[:, None] + torch.arange(unit)).flatten()


def pruned(
    slot: Slot, kept: Sequence[torch.Tensor], modules: Mapping[str, nn.Module]
) -> dict[str, nn.Module]:
    """Return the convs of a channel group, and what comes after them, with the kept channels alone.

    Keys are their names.

    Args:
        slot: the channel group.
        kept: indices of the channels that stay, for each set of inner channels.
        modules: the originals by name; they are copied.
    """
    rows: dict[int, torch.Tensor] = {}
    columns: dict[int, torch.Tensor] = {}
    for inner, channels in zip(inner_channels_of(slot), kept, strict=True):
        rows |= dict.fromkeys(inner[:-1], channels)
        columns |= dict.fromkeys(inner[1:], channels)
    made = {}
    for i, site in enumerate(slot.sites):
        before = site.spec.out_channels
        conv = modules[site.conv]
        if keeps_groups_apart(site.spec):  # its weight has a row for each channel
            made[site.conv] = cut(conv, before, rows[i])
            groups = len(rows[i]) // _of_one_group(site.spec)
            vars(made[site.conv]).update(in_channels=len(rows[i]), groups=groups)
        else:
            made[site.conv] = cut(conv, before, rows.get(i), columns.get(i))
        if i in rows:
            inputs = {gate.reduce for gate in site.gates}
            for name in site.after:
                where = (None, rows[i]) if name in inputs else (rows[i], None)
                made[name] = cut(modules[name], before, *where)
    return made


def cut(
    module: nn.Module,
    channels: int,
    rows: torch.Tensor | None,
    columns: torch.Tensor | None = None,
) -> nn.Module:
    """Return a copy of a conv, or of a module after it, with some of its channels.

    Args:
        module: it is copied. Weight norm of a conv is multiplied out. Of a norm or another module,
            each tensor is cut that has one number per channel, and of a linear layer its weight.
        channels: number of its output channels.
        rows: indices of the output channels that stay; None keeps all.
        columns: indices of the input channels that stay; None keeps all.
    """
    work = plain_copy(module)
    parts = [work] if isinstance(work, CONV_TYPES) else list(work.modules())
    for table in (table for part in parts for table in (part._parameters, part._buffers)):
        for name, tensor in table.items():
            if tensor is None:
                continue
            few = tensor.detach()
            if rows is not None and few.shape[:1] == (channels,):
                few = few.index_select(0, rows.to(few.device))
            if columns is not None and few.dim() > 1:
                few = few.index_select(1, columns.to(few.device))
            if isinstance(tensor, nn.Parameter):
                few = nn.Parameter(few.clone(), requires_grad=tensor.requires_grad)
            table[name] = few  # type: ignore[assignment]
    if is_depthwise(module) and rows is not None:
        vars(work).update(dict.fromkeys(("in_channels", "out_channels", "groups"), len(rows)))
    elif isinstance(work, (*CONV_TYPES, nn.Linear)):
        kind = "features" if isinstance(work, nn.Linear) else "channels"
        left = {f"out_{kind}": rows, f"in_{kind}": columns}
        vars(work).update({name: len(stay) for name, stay in left.items() if stay is not None})
    elif rows is not None:
        for part in parts:
            if isinstance(part, nn.GroupNorm):
                part.num_groups = part.num_groups * len(rows) // channels
            for count in ("num_features", "num_parameters", "num_channels"):
                if vars(part).get(count) == channels:
                    vars(part).update({count: len(rows)})
    return work
