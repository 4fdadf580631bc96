"""Fitting of prunings: in each link of a group the channels that count most stay, and the next conv makes up for the others.

All widths of a link follow from one sum over what its last conv reads; see elimination.py.

Suffixes: F features, O outputs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from refiner.core.errors import TrainingError
from refiner.core.layers import weight_of
from refiner.core.progress import Progress
from refiner.core.randomness import derive_seed
from refiner.core.surgery import copied
from refiner.distill.elimination import eliminate, patches
from refiner.graph.slots import ConvSite, Slot
from refiner.space.candidates import ChannelPruning, get_candidate
from refiner.space.channel_pruning import links_of, pruned, widths
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices

_TINY = 1e-12
_LEAST_ROWS = 4096
"""That are taken of each batch, where there are as many; more where a conv reads more features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """What ends a link at one width, with weights for all channels, zero for those that are not kept."""

    kept: torch.Tensor
    """Numbers of the channels that are."""
    conv: nn.Module
    norm: nn.Module | None
    """A batch norm, with the statistics of what the conv gives."""
    error: float
    """Squared error of what the conv gives over its variance."""


class Link:
    """The conv that ends a link of a group, and sums over what it reads.

    Args:
        site: of the conv.
        conv: the conv.
        norm: the batch norm after it, if there is one.
        seed: fixes which positions are taken.
    """

    def __init__(self, site: ConvSite, conv: nn.Module, norm: nn.Module | None, seed: int) -> None:
        self.site, self.conv, self.norm = site, conv, norm
        self._generator = torch.Generator().manual_seed(seed)
        self._sum: torch.Tensor | None = None

    def accumulate(self, x: torch.Tensor, _y: torch.Tensor) -> None:
        """Add what the conv reads, N x C x spatial."""
        features = weight_of(self.conv)[0].numel()
        rows = patches(x, self.site.spec, max(_LEAST_ROWS, features), self._generator)
        rows = rows.float() if rows.device.type == "mps" else rows.double()
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
        both = rows.T @ rows
        self._sum = both if self._sum is None else self._sum + both

    def fitted(self, devices: Devices, at: Collection[int]) -> dict[int, _Fitted]:
        """Return what is left of the conv at each of several widths.

        Raises:
            TrainingError: what it reads is not finite.
        """
        assert self._sum is not None
        total = devices.summed(self._sum).cpu().double()
        self._sum = None
        if not bool(total.isfinite().all()):
            raise TrainingError(
                f"what {self.site.conv} reads is not finite, so no candidate can learn it. Mend the weights."
            )
        moment_FF, mean_F = total[:-1, :-1] / total[-1, -1], total[-1, :-1] / total[-1, -1]
        weight_OF = weight_of(self.conv).detach().flatten(1).cpu().double()
        centred_FF = moment_FF - mean_F[:, None] * mean_F
        variance_O = (weight_OF @ centred_FF * weight_OF).sum(1)
        # A batch norm takes the mean away, and a bias makes up for it.
        free = self.norm is not None or self.conv.bias is not None
        found = eliminate(
            weight_OF, centred_FF if free else moment_FF, variance_O, self.site.spec.in_channels, at
        )
        made = {}
        for width, reduced in found.items():
            new_OF = reduced.weight_OF
            if self.norm is not None:  # length does nothing before it but set the pace of learning
                new_OF = _as_long(new_OF, weight_OF * (new_OF != 0).any(0))
            conv = copied(self.conv)
            with torch.no_grad():
                weight_of(conv).copy_(new_OF.reshape(weight_of(conv).shape))
                if isinstance(conv.bias, torch.Tensor):
                    conv.bias += ((weight_OF - new_OF) @ mean_F).to(conv.bias)
            norm = self._with_statistics(conv, new_OF, mean_F, centred_FF)
            made[width] = _Fitted(kept=reduced.kept, conv=conv, norm=norm, error=reduced.error)
        return made

    def _with_statistics(
        self,
        conv: nn.Module,
        weight_OF: torch.Tensor,
        mean_F: torch.Tensor,
        centred_FF: torch.Tensor,
    ) -> nn.Module | None:
        """Return a copy of the norm with the mean and the variance of what a conv of other weights gives."""
        if self.norm is None:
            return None
        norm = copied(self.norm)
        mean, variance = norm.running_mean, norm.running_var
        if isinstance(mean, torch.Tensor) and isinstance(variance, torch.Tensor):
            mean.copy_(weight_OF @ mean_F)
            if isinstance(conv.bias, torch.Tensor):
                mean += conv.bias.detach()
            variance.copy_((weight_OF @ centred_FF * weight_OF).sum(1))
        return norm


def _as_long(weight_OF: torch.Tensor, other_OF: torch.Tensor) -> torch.Tensor:
    """Return weights of which each output's are as long as those of another conv."""
    lengths_O, wanted_O = (w.norm(dim=1).clamp(min=_TINY) for w in (weight_OF, other_OF))
    scaled_OF: torch.Tensor = weight_OF * (wanted_O / lengths_O)[:, None]
    return scaled_OF


def links_to_fit(supernet: Supernet, before_norm: Mapping[str, bool], seed: int) -> list[Link]:
    """Return the links of all groups that have a pruning.

    Args:
        supernet: of which the originals are on the path.
        before_norm: of each conv, by name, whether a batch norm follows.
        seed: fixes which positions are taken.
    """
    found: list[Link] = []
    for slot, names in zip(supernet.space.slots, supernet.candidates, strict=True):
        if not _prunings(names):
            continue
        for link in links_of(slot):
            site = slot.sites[link[-1]]
            norm = None
            if before_norm[site.conv]:
                assert site.norm is not None
                norm = supernet.mixed(site.norm).operations[0]
            conv = supernet.mixed(site.conv).operations[0]
            found.append(Link(site, conv, norm, derive_seed(seed, "link", len(found))))
    return found


def fit_prunings(
    supernet: Supernet, links: Sequence[Link], devices: Devices, progress: Progress
) -> dict[str, dict[str, float]]:
    """Set all prunings of a supernet to what its links' sums make the best, and return their errors.

    Progress is told of each link, since wide ones take half a minute.

    Returns:
        Of the last conv of each link, by the names of the prunings, the squared error over the variance.
    """
    waiting = iter(links)
    errors: dict[str, dict[str, float]] = {}
    for slot, names in zip(supernet.space.slots, supernet.candidates, strict=True):
        prunings = _prunings(names)
        if prunings:
            ours = [next(waiting) for _ in links_of(slot)]
            errors |= _fit(supernet, slot, prunings, ours, devices)
            progress.advance(len(ours))
    return errors


def _fit(
    supernet: Supernet,
    slot: Slot,
    prunings: Mapping[int, ChannelPruning],
    links: Sequence[Link],
    devices: Devices,
) -> dict[str, dict[str, float]]:
    """Set the prunings of one group, by their numbers, and return their errors."""
    at = {k: widths(slot, pruning.keep_ratio) for k, pruning in prunings.items()}
    fitted = [link.fitted(devices, {few[i] for few in at.values()}) for i, link in enumerate(links)]
    originals = {
        name: supernet.mixed(name).operations[0]
        for site in slot.sites
        for name in (site.conv, site.norm)
        if name
    }
    errors: dict[str, dict[str, float]] = {link.site.conv: {} for link in links}
    for k, pruning in prunings.items():
        ends = [found[few] for found, few in zip(fitted, at[k], strict=True)]
        modules = dict(originals)
        for link, end in zip(links, ends, strict=True):
            modules[link.site.conv] = end.conv
            if link.site.norm is not None and end.norm is not None:
                modules[link.site.norm] = end.norm
            errors[link.site.conv][pruning.name] = end.error
        for name, module in (modules | pruned(slot, [end.kept for end in ends], modules)).items():
            supernet.mixed(name).operations[k].load_state_dict(module.state_dict())
    return errors


def _prunings(names: Sequence[str]) -> dict[int, ChannelPruning]:
    """Return the prunings among the candidates of a slot, by their numbers."""
    found = {k: get_candidate(name) for k, name in enumerate(names) if k}
    return {k: each for k, each in found.items() if isinstance(each, ChannelPruning)}
