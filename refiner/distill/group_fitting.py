"""Fits channel prunings: the inner channels that matter most stay, and the next conv is refitted.

The inner channels of a group lie between one dense conv and the next. Which of them can go, and the
weights of the conv that reads them, follow from one sum over what that conv reads. The same sum
serves all keep ratios; see ``channel_elimination.py``. Channels that only go together, as those of
one group of a grouped conv, are one channel there.

Suffixes: F features, R those that are read, O outputs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from refiner.core.layers import weight_of
from refiner.core.surgery import copied
from refiner.core.weight_norm import with_plain_weight
from refiner.distill.channel_elimination import Reduced, eliminate
from refiner.distill.patches import PatchSums
from refiner.distill.sum_table import SumTable
from refiner.graph.slots import ConvSite, Slot
from refiner.space.candidates import ChannelPruning, get_candidate
from refiner.space.channel_pruning import (
    channels_of,
    inner_channels_of,
    inner_units,
    pruned,
    widths,
)
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices

_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstruction:
    """The conv that reads inner channels, refitted to the channels that stay."""

    kept: torch.Tensor
    """Numbers of the channels that stay."""
    conv: nn.Module
    """The conv with weights for all channels, zero for those that go."""
    norm: nn.Module | None
    """The batch norm after it, with the statistics of the new output."""
    error: float
    """Squared error of the conv's output over its variance, on rows held out."""
    fit_error: float
    """The same on the rows of the fit."""


class InnerChannels:
    """The inner channels between two dense convs of a group, and the second conv, which reads them.

    Args:
        site: of the conv that reads them.
        conv: that conv.
        norm: the batch norm after it, if there is one.
        sums: over what the conv reads.
        at: numbers of channels to keep.
        unit: how many channels stay or go together; all numbers are multiples of it.
    """

    def __init__(
        self,
        site: ConvSite,
        conv: nn.Module,
        norm: nn.Module | None,
        sums: PatchSums,
        at: Collection[int],
        unit: int = 1,
    ) -> None:
        self.site, self.conv, self.norm, self.sums = site, conv, norm, sums
        self.at, self.unit = at, unit
        self.found: dict[int, Reconstruction] = {}
        """For each number of channels, the refitted conv; empty before :meth:`solve`."""

    def solve(self, devices: Devices) -> None:
        """Find the refitted convs from the sums.

        Raises:
            TrainingError: the input of the conv is not finite.
        """
        fit, held_out = self.sums.moments(devices)
        every = fit.with_rows(held_out)
        weight_OF = weight_of(self.conv).detach().flatten(1).to(every.gram_FF)
        # The mean of the output is free where a norm subtracts it or a bias can restore it.
        free = self.norm is not None or self.conv.bias is not None
        units = self.site.spec.in_channels // self.unit
        counts = {width // self.unit for width in self.at}
        reduced = eliminate(weight_OF, fit, held_out, units, counts, centred=free)
        centred_FF = every.centred().gram_FF
        self.found = {
            self.unit * count: self._reconstruction(each, weight_OF, every.mean_F, centred_FF)
            for count, each in reduced.items()
        }

    def _reconstruction(
        self,
        reduced: Reduced,
        weight_OF: torch.Tensor,
        mean_F: torch.Tensor,
        centred_FF: torch.Tensor,
    ) -> Reconstruction:
        """Return copies of the conv and its norm with the weights of a reduced conv.

        Args:
            reduced: the channels that stay and the weights for them.
            weight_OF: the original weights.
            mean_F: mean of the features.
            centred_FF: covariance of the features.
        """
        new_OF = reduced.weight_OF
        if self.norm is not None:
            # Before a norm, the length of the weights only sets the pace of training.
            new_OF = _rescaled(new_OF, weight_OF * (new_OF != 0).any(0))
        conv = copied(self.conv)
        with torch.no_grad():
            weight_of(conv).copy_(new_OF.reshape(weight_of(conv).shape))
            if isinstance(conv.bias, torch.Tensor):
                conv.bias += ((weight_OF - new_OF) @ mean_F).to(conv.bias)
        norm = self._with_statistics(conv, new_OF, mean_F, centred_FF)
        return Reconstruction(
            kept=channels_of(reduced.kept, self.unit),
            conv=conv,
            norm=norm,
            error=reduced.error,
            fit_error=reduced.fit_error,
        )

    def _with_statistics(
        self,
        conv: nn.Module,
        weight_OF: torch.Tensor,
        mean_F: torch.Tensor,
        centred_FF: torch.Tensor,
    ) -> nn.Module | None:
        """Return a copy of the norm with the mean and the variance of the new conv's output."""
        if self.norm is None:
            return None
        norm = copied(self.norm)
        mean, variance = norm.running_mean, norm.running_var
        if isinstance(mean, torch.Tensor) and isinstance(variance, torch.Tensor):
            mean.copy_(weight_OF @ mean_F)
            if isinstance(conv.bias, torch.Tensor):
                mean += conv.bias.detach()
            read_R = (weight_OF != 0).any(0).nonzero().flatten()
            weight_OR, centred_RR = weight_OF[:, read_R], centred_FF[read_R][:, read_R]
            variance.copy_((weight_OR @ centred_RR * weight_OR).sum(1))
        return norm


def _rescaled(weight_OF: torch.Tensor, other_OF: torch.Tensor) -> torch.Tensor:
    """Return ``weight_OF`` with the weights of each output scaled to the length of the other's."""
    lengths_O, wanted_O = (w.norm(dim=1).clamp(min=_TINY) for w in (weight_OF, other_OF))
    scaled_OF: torch.Tensor = weight_OF * (wanted_O / lengths_O)[:, None]
    return scaled_OF


def has_batch_norm(supernet: Supernet, site: ConvSite) -> bool:
    """Return whether a batch or instance norm follows a conv and subtracts each channel's mean."""
    if site.norm is None:
        return False
    original = supernet.mixed(site.norm).operations[0]
    return isinstance(original, nn.modules.batchnorm._NormBase)


def inner_channels_to_fit(supernet: Supernet, table: SumTable) -> list[InnerChannels]:
    """Return the inner channels of all groups that have a channel pruning.

    Args:
        supernet: with the originals on its path.
        table: of the sums.
    """
    found: list[InnerChannels] = []
    for slot, names in zip(supernet.space.slots, supernet.candidates, strict=True):
        counts = [widths(slot, pruning.keep_ratio) for pruning in prunings_of(names).values()]
        if not counts:
            continue
        every = zip(*counts, strict=True)
        for sites, at, unit in zip(inner_channels_of(slot), every, inner_units(slot), strict=True):
            site = slot.sites[sites[-1]]
            norm = None
            if has_batch_norm(supernet, site):
                assert site.norm is not None
                norm = supernet.mixed(site.norm).operations[0]
            conv = with_plain_weight(supernet.mixed(site.conv).operations[0])
            sums = table.sums(site.conv, site.spec, weight_of(conv)[0].numel())
            found.append(InnerChannels(site, conv, norm, sums, set(at), unit))
    return found


def fill_prunings(
    supernet: Supernet, inner: Sequence[InnerChannels]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Set the weights of all channel prunings of a supernet, and return their errors.

    Args:
        supernet: its prunings are changed in place.
        inner: what :func:`inner_channels_to_fit` returned, all of them solved.

    Returns:
        For each conv that reads inner channels, the errors of each pruning by name: on rows held
        out, and on those of the fit.
    """
    waiting = iter(inner)
    errors: dict[str, dict[str, tuple[float, float]]] = {}
    for slot, names in zip(supernet.space.slots, supernet.candidates, strict=True):
        prunings = prunings_of(names)
        if prunings:
            of_slot = [next(waiting) for _ in inner_channels_of(slot)]
            errors |= _fill_group(supernet, slot, prunings, of_slot)
    return errors


def _fill_group(
    supernet: Supernet,
    slot: Slot,
    prunings: Mapping[int, ChannelPruning],
    inner: Sequence[InnerChannels],
) -> dict[str, dict[str, tuple[float, float]]]:
    """Set the weights of the prunings of one group, by index of the candidate."""
    originals = {name: supernet.mixed(name).operations[0] for name in slot.modules}
    errors: dict[str, dict[str, tuple[float, float]]] = {each.site.conv: {} for each in inner}
    for k, pruning in prunings.items():
        counts = widths(slot, pruning.keep_ratio)
        readers = [each.found[count] for each, count in zip(inner, counts, strict=True)]
        modules = dict(originals)
        for channels, reader in zip(inner, readers, strict=True):
            modules[channels.site.conv] = reader.conv
            if channels.site.norm is not None and reader.norm is not None:
                modules[channels.site.norm] = reader.norm
            errors[channels.site.conv][pruning.name] = reader.error, reader.fit_error
        modules |= pruned(slot, [reader.kept for reader in readers], modules)
        for name, module in modules.items():
            supernet.mixed(name).operations[k].load_state_dict(module.state_dict())
    return errors


def prunings_of(names: Sequence[str]) -> dict[int, ChannelPruning]:
    """Return the channel prunings among the candidates of a slot, by index."""
    found = {k: get_candidate(name) for k, name in enumerate(names) if k}
    return {k: each for k, each in found.items() if isinstance(each, ChannelPruning)}
