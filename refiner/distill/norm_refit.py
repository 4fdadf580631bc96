"""Statistics of the norms that no closed form sets, while a network is refitted front to back.

Such a norm stands behind a grouped conv, for example. Once earlier convs have been fitted again,
its input differs from that which its statistics were taken of. They become the original's own,
changed by as much as the two inputs differ on the same samples.

Suffix: C channels.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import nn

from refiner.distill.candidate_fit import Conv
from refiner.distill.conv_refit import FEWEST_ROWS, has_statistics, kept_filters
from refiner.space.search_space import SearchSpace
from refiner.training.devices import Devices

_Norm = nn.modules.batchnorm._BatchNorm
_TINY = 1e-12
Statistics = tuple[torch.Tensor, torch.Tensor]
"""Mean and variance of each channel."""


class NormRefit:
    """A batch norm of a network, and its counterpart in the original.

    Args:
        norm: its statistics are set.
        theirs: the original's.
        kept: which channels of the original's it has; None for all.
    """

    def __init__(self, norm: _Norm, theirs: _Norm, kept: torch.Tensor | None) -> None:
        self.norm, self.theirs, self.kept = norm, theirs, kept
        self.taken: list[Statistics] = []
        """Of what the original's norm reads, for each of its calls."""

    def take(self, x: torch.Tensor) -> None:
        """Take the statistics of what the original's norm reads, N x C x spatial."""
        self.taken.append(_statistics(x))

    def set(self, x: torch.Tensor, devices: Devices) -> None:
        """Set the statistics, by what the norm reads in the network, N x C x spatial.

        A norm that is called more than once stays as it is, and one of few numbers a channel.
        """
        rows = devices.summed(torch.tensor(x.numel() // x.shape[1], dtype=torch.float64))
        if len(self.taken) != 1 or rows < FEWEST_ROWS:
            return
        running = self.theirs.running_mean, self.theirs.running_var
        ours = self.norm.running_mean, self.norm.running_var
        assert running[0] is not None
        assert running[1] is not None
        assert ours[0] is not None
        assert ours[1] is not None
        theirs = torch.stack([running[0], running[1], *self.taken[0]])
        if self.kept is not None:
            theirs = theirs.index_select(1, self.kept.to(theirs.device))
        every = torch.cat([theirs, torch.stack(_statistics(x))]).double()
        mean_C, variance_C, before_C, spread_C, now_C, found_C = (
            devices.summed(every) / devices.processes
        )
        if not bool(every.isfinite().all()):
            return
        ours[0].copy_(mean_C + now_C - before_C)
        ours[1].copy_(variance_C * (found_C + _TINY) / (spread_C + _TINY))


def norm_refits(
    network: nn.Module, original: nn.Module, space: SearchSpace, fitted: Collection[nn.Module]
) -> list[NormRefit]:
    """Return the batch norms of a network whose statistics are to follow.

    Args:
        network: with an architecture of ``space``.
        original: it comes from.
        space: names the convs before norms.
        fitted: norms that are fitted with their convs.
    """
    ours, originals = dict(network.named_modules()), dict(original.named_modules())
    sites = [site for slot in space.slots for site in slot.sites]
    convs = {name: site.conv for site in sites for name in site.after}
    found = []
    for name, norm in ours.items():
        theirs = originals.get(name)
        if norm in fitted or not has_statistics(norm) or not has_statistics(theirs):
            continue
        assert isinstance(norm, _Norm)
        assert isinstance(theirs, _Norm)
        kept = None
        if norm.num_features != theirs.num_features:
            conv, before = (each.get(convs.get(name, "")) for each in (ours, originals))
            if not isinstance(conv, Conv) or before is None:
                continue
            kept = kept_filters(conv.weight, before)
            if kept is None or len(kept) != norm.num_features:
                continue
        found.append(NormRefit(norm, theirs, kept))
    return found


def taking(norms: Collection[NormRefit]) -> AbstractContextManager[None]:
    """Return a context in which norms take the statistics of a run of the original."""
    return _hearing([(each.theirs, each.take) for each in norms])


def setting(norms: Collection[NormRefit], devices: Devices) -> AbstractContextManager[None]:
    """Return a context in which a run of the network sets the norms."""
    return _hearing([(each.norm, partial(each.set, devices=devices)) for each in norms])


@contextmanager
def _hearing(pairs: Sequence[tuple[nn.Module, Callable[[torch.Tensor], None]]]) -> Iterator[None]:
    """Call each function with what its module is about to read."""
    hooks = [
        module.register_forward_pre_hook(lambda _, args, hear=hear: hear(args[0]))
        for module, hear in pairs
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _statistics(x: torch.Tensor) -> Statistics:
    """Return the mean and the variance of each channel, float32, of N x C x spatial."""
    dims = [dim for dim in range(x.dim()) if dim != 1]
    variance_C, mean_C = torch.var_mean(x.float(), dims, correction=0)
    return mean_C, variance_C
