"""Fitting of narrowings: in each link of a chain the channels that count most stay, and the next conv makes up for the others.

All widths of a link follow from one sum over what its last conv reads; see elimination.py.

Suffixes: F features, O outputs.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn

from refiner.candidates import Narrowing, get_candidate
from refiner.devices import Devices
from refiner.elimination import Reduced, eliminate, patches
from refiner.errors import TrainingError
from refiner.narrowing import links_of, narrowed, width
from refiner.randomness import derive_seed
from refiner.slots import Slot
from refiner.supernet import Supernet
from refiner.surgery import copied

_TINY = 1e-12
_LEAST_ROWS = 4096
"""That are taken of each batch, where there are as many; more where a conv reads more features."""


class Link:
    """The last conv of a link of a chain, and sums over what it reads.

    Args:
        conv: the conv.
        name: of the conv.
        slot: the chain.
        before_norm: whether a batch norm follows.
        seed: fixes which positions are taken.
    """

    def __init__(
        self, conv: nn.Module, name: str, slot: Slot, before_norm: bool, seed: int
    ) -> None:
        self.conv, self.name, self.before_norm = conv, name, before_norm
        self.spec = next(site.spec for site in slot.sites if site.conv == name)
        self._generator = torch.Generator().manual_seed(seed)
        self._sum: torch.Tensor | None = None

    def accumulate(self, x: torch.Tensor, _y: torch.Tensor) -> None:
        """Add what the conv reads, N x C x spatial."""
        features = _weight(self.conv)[0].numel()
        rows = patches(x, self.spec, max(_LEAST_ROWS, features), self._generator)
        rows = rows.float() if rows.device.type == "mps" else rows.double()
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
        both = rows.T @ rows
        self._sum = both if self._sum is None else self._sum + both

    def reduced(
        self, devices: Devices, widths: Collection[int]
    ) -> tuple[dict[int, Reduced], torch.Tensor]:
        """Return what is left of the conv at each width, and the mean of what it reads, F.

        Raises:
            TrainingError: what it reads is not finite.
        """
        assert self._sum is not None
        total = devices.summed(self._sum).double().cpu()
        self._sum = None
        if not bool(total.isfinite().all()):
            raise TrainingError(
                f"what {self.name} reads is not finite, so no candidate can learn it. Mend the weights."
            )
        moment_FF, mean_F = total[:-1, :-1] / total[-1, -1], total[-1, :-1] / total[-1, -1]
        if self.before_norm or self.conv.bias is not None:  # the mean is made up for
            moment_FF = moment_FF - mean_F[:, None] * mean_F
        weight_OF = _weight(self.conv).detach().flatten(1)
        return eliminate(weight_OF, moment_FF, self.spec.in_channels, widths), mean_F


def links_to_fit(supernet: Supernet, before_norm: Mapping[str, bool], seed: int) -> list[Link]:
    """Return the links of all chains that have a narrowing.

    Args:
        supernet: of which the originals are on the path.
        before_norm: of each conv, by name, whether a batch norm follows.
        seed: fixes which positions are taken.
    """
    found: list[Link] = []
    for slot, names in zip(supernet.space.slots, supernet.candidates, strict=True):
        if not any(isinstance(get_candidate(name), Narrowing) for name in names[1:]):
            continue
        for link in links_of(slot):
            name = slot.sites[link[-1]].conv
            conv = supernet.mixed(name).operations[0]
            seed_here = derive_seed(seed, "link", len(found))
            found.append(Link(conv, name, slot, before_norm[name], seed_here))
    return found


def fit_narrowings(
    supernet: Supernet, links: Sequence[Link], devices: Devices
) -> dict[str, dict[str, float]]:
    """Set all narrowings of a supernet to what its links' sums make the best, and return their errors.

    Returns:
        Of the last conv of each link, by the names of the narrowings, the squared error over the variance.
    """
    by_name = {link.name: link for link in links}
    errors: dict[str, dict[str, float]] = {}
    for slot, names in zip(supernet.space.slots, supernet.candidates, strict=True):
        eighths = {
            k: candidate.eighths
            for k, name in enumerate(names[1:], 1)
            if isinstance(candidate := get_candidate(name), Narrowing)
        }
        if not eighths:
            continue
        ends = {link: slot.sites[link[-1]].conv for link in links_of(slot)}
        solved = {
            link: by_name[name].reduced(devices, {width(slot, link, e) for e in eighths.values()})
            for link, name in ends.items()
        }
        originals = {
            name: supernet.mixed(name).operations[0]
            for site in slot.sites
            for name in (site.conv, site.norm)
            if name
        }
        for k, e in eighths.items():
            kept, modules = [], dict(originals)
            for link, (found, mean_F) in solved.items():
                reduced = found[width(slot, link, e)]
                kept.append(reduced.kept)
                modules[ends[link]] = _with_weight(originals[ends[link]], reduced.weight_OF, mean_F)
                errors.setdefault(ends[link], {})[names[k]] = reduced.error
            plain = narrowed(slot, kept, originals)
            for name, module in narrowed(slot, kept, modules).items():
                if name in by_name and by_name[name].before_norm:
                    _as_long(_weight(module), _weight(plain[name]))
                supernet.mixed(name).operations[k].load_state_dict(module.state_dict())
    return errors


def _as_long(weight: torch.Tensor, other: torch.Tensor) -> None:
    """Make the weights of each output as long as those of another conv.

    Before a batch norm length has no effect but on the pace of learning, which is to be what it was.
    """
    with torch.no_grad():
        lengths, wanted = (w.flatten(1).norm(dim=1).clamp(min=_TINY) for w in (weight, other))
        weight.mul_((wanted / lengths).reshape(-1, *[1] * (weight.dim() - 1)))


def _with_weight(conv: nn.Module, weight_OF: torch.Tensor, mean_F: torch.Tensor) -> nn.Module:
    """Return a copy of a conv with another weight, and with the bias by which it gives the same mean."""
    work, old_OF = copied(conv), _weight(conv).detach().flatten(1).to(weight_OF)
    with torch.no_grad():
        _weight(work).copy_(weight_OF.reshape(_weight(conv).shape))
        if isinstance(work.bias, torch.Tensor):
            work.bias += ((old_OF - weight_OF) @ mean_F).to(work.bias)
    return work


def _weight(conv: nn.Module) -> torch.Tensor:
    weight = conv.weight
    assert isinstance(weight, torch.Tensor)
    return weight
