"""ChannelPruning: fewer channels between the convs of a group, everything at its ends as it was.

What stays of a conv, of the norm after it and of a depthwise conv on the way is cut out of the original, so that
of the channels that stay the next conv reads what it read. Channels are kept by the length of what is read of
them, as far as weights tell it; distillation of a trained network chooses better (elimination.py).

Source: Li et al., Pruning Filters for Efficient ConvNets, 2017.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.layers import CONV_TYPES, weight_of
from refiner.core.surgery import copied, replace_modules
from refiner.graph.channel_groups import is_depthwise
from refiner.graph.probe import to_blame
from refiner.graph.slots import ConvSite, Slot
from refiner.graph.trace_check import Run, run_original
from refiner.graph.traced_model import TracedModel


def inner_channels_of(slot: Slot) -> list[tuple[int, ...]]:
    """Return the links of a group: numbers of its sites from a dense conv over depthwise ones to the next dense one."""
    dense = [i for i, site in enumerate(slot.sites) if not is_depthwise(site.spec)]
    return [tuple(range(start, end + 1)) for start, end in pairwise(dense)] if slot.is_group else []


def widths(slot: Slot, keep_ratio: float) -> tuple[int, ...]:
    """Return how many channels each link keeps at a keep ratio, rounded down; empty for a single conv."""
    return tuple(int(slot.sites[link[0]].spec.out_channels * keep_ratio) for link in inner_channels_of(slot))


def pruned_sites(slot: Slot, keep_ratio: float) -> tuple[ConvSite, ...]:
    """Return the sites of a group as they are with a share ``keep_ratio`` of the channels between them."""
    sites = list(slot.sites)
    for link, few in zip(inner_channels_of(slot), widths(slot, keep_ratio), strict=True):
        for i in link[:-1]:  # what gives the channels
            site = sites[i]
            sites[i] = replace(
                site,
                spec=replace(site.spec, out_channels=few),
                out_shape=(*site.out_shape[:1], few, *site.out_shape[2:]),
                norm_parameters=site.norm_parameters * few // site.spec.out_channels,
            )
        for i in link[1:]:  # what reads them
            site = sites[i]
            groups = few if is_depthwise(slot.sites[i].spec) else 1
            sites[i] = replace(
                site,
                spec=replace(site.spec, in_channels=few, groups=groups),
                in_shape=(*site.in_shape[:1], few, *site.in_shape[2:]),
            )
    return tuple(sites)


def kept_channels(
    slot: Slot, keep_ratio: float, modules: Mapping[str, nn.Module]
) -> tuple[torch.Tensor, ...]:
    """Return the numbers of the channels of each link that count most, in order.

    A channel counts by the norm of the weights that read it, times the scale that the norm before them
    gives it or, without one, the norm of the weights that make it.
    """
    kept = []
    for link, few in zip(inner_channels_of(slot), widths(slot, keep_ratio), strict=True):
        reads = weight_of(modules[slot.sites[link[-1]].conv]).transpose(0, 1).flatten(1).norm(dim=1)
        before = slot.sites[link[-2]]
        scale = getattr(modules[before.norm], "weight", None) if before.norm else None
        if scale is None:
            scale = weight_of(modules[before.conv]).flatten(1).norm(dim=1)
        counts = reads.detach() * scale.detach().abs().to(reads)
        if counts.is_meta:
            kept.append(torch.arange(few))
        else:
            kept.append(counts.argsort(descending=True, stable=True)[:few].sort().values.cpu())
    return tuple(kept)


def pruned(
    slot: Slot, kept: Sequence[torch.Tensor], modules: Mapping[str, nn.Module]
) -> dict[str, nn.Module]:
    """Return the convs and norms of a group, by name, with the channels of each link that are kept.

    Args:
        slot: the chain.
        kept: numbers of these channels, of each link.
        modules: the originals by name; they are copied.
    """
    rows: dict[int, torch.Tensor] = {}
    columns: dict[int, torch.Tensor] = {}
    for link, channels in zip(inner_channels_of(slot), kept, strict=True):
        rows |= dict.fromkeys(link[:-1], channels)
        columns |= dict.fromkeys(link[1:], channels)
    made = {}
    for i, site in enumerate(slot.sites):
        before = site.spec.out_channels
        conv = modules[site.conv]
        if is_depthwise(site.spec):  # its weight has a row a channel, and no column
            made[site.conv] = cut(conv, before, rows[i])
            vars(made[site.conv]).update(in_channels=len(rows[i]), groups=len(rows[i]))
        else:
            made[site.conv] = cut(conv, before, rows.get(i), columns.get(i))
        if site.norm is not None and i in rows:
            made[site.norm] = cut(modules[site.norm], before, rows[i])
    return made


def cut(
    module: nn.Module,
    channels: int,
    rows: torch.Tensor | None,
    columns: torch.Tensor | None = None,
) -> nn.Module:
    """Return a copy of a conv or a norm with some of its channels.

    Args:
        module: is copied; of a norm all is cut that has one number for each channel.
        channels: number of those that it gives.
        rows: numbers of those that stay; None keeps all.
        columns: the same of those that it reads.
    """
    work = copied(module)
    for table in (work._parameters, work._buffers):
        for name, tensor in table.items():
            if tensor is None:
                continue
            part = tensor.detach()
            if rows is not None and part.shape[:1] == (channels,):
                part = part.index_select(0, rows.to(part.device))
            if columns is not None and part.dim() > 1:
                part = part.index_select(1, columns.to(part.device))
            if isinstance(tensor, nn.Parameter):
                part = nn.Parameter(part.clone(), requires_grad=tensor.requires_grad)
            table[name] = part  # type: ignore[assignment]
    if isinstance(work, CONV_TYPES):
        work.out_channels = work.out_channels if rows is None else len(rows)
        work.in_channels = work.in_channels if columns is None else len(columns)
    elif rows is not None and hasattr(work, "num_features"):
        vars(work).update(num_features=len(rows))
    return work


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """Names of the first and the last conv of a link, and which of the channels between them stay."""

    first: str
    last: str
    channels: int
    kept: torch.Tensor


def broken_groups(traced: TracedModel, groups: Sequence[Slot]) -> list[int]:
    """Return the indices of the groups whose channels cannot be pruned.

    Their channels mix between the convs, or the model counts them. The model runs with half of the
    channels, beside the original with all. In both, the first conv before each inner boundary
    gives the same noise, so that channels differ whatever the example is. The last conv has to
    read the same values of the channels that stay.
    """
    model = traced.source
    modules = dict(traced.work.named_modules())
    kept = [kept_channels(slot, 0.5, modules) for slot in groups]

    def holds(numbers: Sequence[int]) -> bool:
        fewer, links = copied(model), []
        for i in numbers:
            replace_modules(fewer, pruned(groups[i], kept[i], modules))
            sites = groups[i].sites
            links += [
                _Link(
                    first=sites[link[0]].conv, last=sites[link[-1]].conv,
                    channels=sites[link[0]].spec.out_channels, kept=channels,
                )
                for link, channels in zip(inner_channels_of(groups[i]), kept[i], strict=True)
            ]  # fmt: skip
        try:
            for run in traced.runs:
                if run.training:  # random numbers that it draws are others for other shapes
                    run_original(fewer, run.example, training=True)
                elif not _alike(_read(fewer, links, run), _read(traced.work, links, run)):
                    return False
        except ModelError:
            return False
        return True

    return to_blame(len(groups), holds)


def _read(work: nn.Module, links: Sequence[_Link], run: Run) -> dict[str, torch.Tensor]:
    """Return what the last convs of links read of the channels that stay, the first ones giving noise."""
    read: dict[str, torch.Tensor] = {}

    def stay(tensor: torch.Tensor, link: _Link) -> torch.Tensor:
        return tensor.index_select(1, link.kept.to(tensor.device))

    hooks = []
    for i, link in enumerate(links):
        few = bool(work.get_submodule(link.last).in_channels == len(link.kept))

        def noise(
            _m: Any, _i: Any, output: torch.Tensor, i: int = i, link: _Link = link, few: bool = few
        ) -> torch.Tensor:
            shape = (len(output), link.channels, *output.shape[2:])
            drawn = torch.randn(shape, generator=torch.Generator().manual_seed(i)).to(output)
            return stay(drawn, link) if few else drawn

        def keep(_m: Any, inputs: tuple[torch.Tensor], link: _Link = link, few: bool = few) -> None:
            read[link.last] = inputs[0] if few else stay(inputs[0], link)

        hooks.append(work.get_submodule(link.first).register_forward_hook(noise))
        hooks.append(work.get_submodule(link.last).register_forward_pre_hook(keep))
    try:
        run_original(work, run.example, run.training)
    finally:
        for hook in hooks:
            hook.remove()
    return read


def _alike(some: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> bool:
    """Return whether tensors of the same names are equal up to rounding; on the meta device shapes alone are."""
    if some.keys() != others.keys():
        return False
    for name, first in some.items():
        second = others[name]
        if first.shape != second.shape:
            return False
        if first.is_meta:
            continue
        rounding = max(1e-3, 4 * torch.finfo(second.dtype).eps)
        atol = rounding * float(second.nan_to_num().abs().max().clamp(min=1e-6))
        if not torch.allclose(first, second, rtol=0, atol=atol, equal_nan=True):
            return False
    return True
