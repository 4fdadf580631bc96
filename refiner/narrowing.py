"""Narrowing: fewer channels between the convs of a chain, everything at its ends as it was.

What stays of a conv, of the norm after it and of a depthwise conv on the way is cut out of the original, so that
of the channels that stay the next conv reads what it read. Channels are kept by the length of what is read of
them, as far as weights tell it; distillation of a trained network chooses better (elimination.py).

Source: Li et al., Pruning Filters for Efficient ConvNets, 2017.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from refiner.chains import is_depthwise
from refiner.errors import ModelError
from refiner.inputs import to_device_of
from refiner.layers import CONV_TYPES
from refiner.probe import to_blame
from refiner.slots import ConvSite, Slot
from refiner.surgery import copied, replace_modules
from refiner.trace_check import reference_runs, run_original

EIGHTHS = 8
"""Into which the channels of a link are divided."""


def links_of(slot: Slot) -> list[tuple[int, ...]]:
    """Return the links of a chain: numbers of its sites from a dense conv over depthwise ones to the next dense one."""
    dense = [i for i, site in enumerate(slot.sites) if not is_depthwise(site.spec)]
    return [tuple(range(start, end + 1)) for start, end in pairwise(dense)] if slot.chained else []


def width(slot: Slot, link: Sequence[int], eighths: int) -> int:
    """Return how many channels of a link are so many eighths of it."""
    return slot.sites[link[0]].spec.out_channels * eighths // EIGHTHS


def can_be_narrowed(slot: Slot, eighths: int) -> bool:
    """Return whether so many eighths leave each link a channel, and an eighth less would be fewer of them."""
    widths = [[width(slot, link, e) for e in (eighths, eighths - 1)] for link in links_of(slot)]
    return all(here for here, _ in widths) and any(fewer < here for here, fewer in widths)


def narrowed_sites(slot: Slot, eighths: int) -> tuple[ConvSite, ...]:
    """Return the sites of a chain as they are with so many eighths of the channels between them."""
    sites = list(slot.sites)
    for link in links_of(slot):
        few = width(slot, link, eighths)
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
    slot: Slot, eighths: int, modules: Mapping[str, nn.Module]
) -> tuple[torch.Tensor, ...]:
    """Return the numbers of the channels of each link that count most, in order.

    A channel counts by the norm of the weights that read it, times the scale that the norm before them
    gives it or, without one, the norm of the weights that make it.
    """
    kept = []
    for link in links_of(slot):
        reads = _weight(modules[slot.sites[link[-1]].conv]).transpose(0, 1).flatten(1).norm(dim=1)
        before = slot.sites[link[-2]]
        scale = getattr(modules[before.norm], "weight", None) if before.norm else None
        if scale is None:
            scale = _weight(modules[before.conv]).flatten(1).norm(dim=1)
        few = width(slot, link, eighths)
        counts = reads.detach() * scale.detach().abs().to(reads)
        if counts.is_meta:
            kept.append(torch.arange(few))
        else:
            kept.append(counts.argsort(descending=True, stable=True)[:few].sort().values.cpu())
    return tuple(kept)


def narrowed(
    slot: Slot, kept: Sequence[torch.Tensor], modules: Mapping[str, nn.Module]
) -> dict[str, nn.Module]:
    """Return the convs and norms of a chain, by name, with the channels of each link that are kept.

    Args:
        slot: the chain.
        kept: numbers of these channels, of each link.
        modules: the originals by name; they are copied.
    """
    rows: dict[int, torch.Tensor] = {}
    columns: dict[int, torch.Tensor] = {}
    for link, channels in zip(links_of(slot), kept, strict=True):
        rows |= dict.fromkeys(link[:-1], channels)
        columns |= dict.fromkeys(link[1:], channels)
    made = {}
    for i, site in enumerate(slot.sites):
        conv = modules[site.conv]
        if is_depthwise(site.spec):  # its weight has a row a channel, and no column
            made[site.conv] = cut(conv, rows[i], None)
            vars(made[site.conv]).update(in_channels=len(rows[i]), groups=len(rows[i]))
        else:
            made[site.conv] = cut(conv, rows.get(i), columns.get(i))
        if site.norm is not None and i in rows:
            made[site.norm] = cut(modules[site.norm], rows[i], None)
    return made


def cut(module: nn.Module, rows: torch.Tensor | None, columns: torch.Tensor | None) -> nn.Module:
    """Return a copy of a conv or a norm with some of its output channels (rows) and inputs (columns).

    ``None`` keeps all.
    """
    work = copied(module)
    before = getattr(module, "out_channels", None) or getattr(module, "num_features", None)
    for table in (work._parameters, work._buffers):
        for name, tensor in table.items():
            if tensor is None or tensor.dim() == 0:
                continue
            part = tensor.detach()
            if rows is not None and (before is None or len(part) == before):
                part = part.index_select(0, rows.to(part.device))
            if columns is not None and part.dim() > 1:
                part = part.index_select(1, columns.to(part.device))
            if isinstance(tensor, nn.Parameter):
                part = nn.Parameter(part.clone(), requires_grad=tensor.requires_grad)
            table[name] = part  # type: ignore[assignment]
    if isinstance(work, CONV_TYPES):
        work.out_channels = len(rows) if rows is not None else work.out_channels
        work.in_channels = len(columns) if columns is not None else work.in_channels
    elif rows is not None and hasattr(work, "num_features"):
        vars(work).update(num_features=len(rows))
    return work


def broken_chains(model: nn.Module, chains: Sequence[Slot], example: Any) -> list[int]:
    """Return the numbers of the chains that do not keep channels apart, or whose channels the model counts.

    The model runs with half of the channels gone, beside one that has them all but reads none of these: what is
    read of the others has to be the same.

    Raises:
        ModelError: the model rejects the example input.
    """
    modules = dict(model.named_modules())
    kept = [kept_channels(slot, EIGHTHS // 2, modules) for slot in chains]
    given = to_device_of(model, example)
    runs = reference_runs(copied(model), given)

    def holds(numbers: Sequence[int]) -> bool:
        fewer, blind = copied(model), copied(model)
        ends: dict[str, torch.Tensor] = {}
        for i in numbers:
            replace_modules(fewer, narrowed(chains[i], kept[i], modules))
            for link, channels in zip(links_of(chains[i]), kept[i], strict=True):
                name = chains[i].sites[link[-1]].conv
                weight = _weight(blind.get_submodule(name))
                unread = torch.ones(weight.shape[1], dtype=torch.bool)
                unread[channels] = False
                with torch.no_grad():
                    weight[:, unread.to(weight.device)] = 0
                ends[name] = channels
        try:
            for run in runs:
                read = [_read_by(work, ends, run.example, run.training) for work in (fewer, blind)]
                if not run.training and not all(
                    _alike(a, b[:, ends[name].to(b.device)])
                    for name in ends
                    for a, b in [(read[0][name], read[1][name])]
                ):
                    return False
        except ModelError:
            return False
        return True

    return to_blame(len(chains), holds)


def _read_by(
    work: nn.Module, names: Mapping[str, torch.Tensor], example: Any, training: bool
) -> dict[str, torch.Tensor]:
    """Return what the convs of those names read in a run."""
    read: dict[str, torch.Tensor] = {}
    hooks = [
        work.get_submodule(name).register_forward_pre_hook(
            lambda _m, inputs, name=name: read.__setitem__(name, inputs[0].detach().clone())
        )
        for name in names
    ]
    try:
        run_original(work, example, training)
    finally:
        for hook in hooks:
            hook.remove()
    return read


def _alike(first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.shape != second.shape or first.is_meta:
        return first.shape == second.shape
    scale = float(second.nan_to_num().abs().max().clamp(min=1e-6))
    return torch.allclose(first, second, rtol=0, atol=1e-3 * scale, equal_nan=True)


def _weight(conv: nn.Module) -> torch.Tensor:
    weight = conv.weight
    assert isinstance(weight, torch.Tensor)
    return weight
