"""Fits gates of pruned groups: a bias makes up for the inputs that the first layer loses.

It adds what these gave in the mean. So the factors of the channels that stay have no bias towards
larger or smaller ones.
"""

from collections.abc import Sequence

import torch
from torch import nn

from refiner.core.layers import weight_of
from refiner.distill.constant_fit import ChannelMean
from refiner.distill.group_fitting import InnerChannels, prunings_of
from refiner.distill.original import Listener
from refiner.space.channel_pruning import inner_channels_of, widths
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices


class GateFit:
    """The first layer of a gate, in the original and in each pruning of its group.

    Args:
        conv: the original, a conv or a linear layer.
        name: of it.
        narrowed: those that read fewer channels, each with the numbers of these.
    """

    def __init__(
        self,
        name: str,
        conv: nn.Module,
        narrowed: Sequence[tuple[nn.Module, torch.Tensor]],
    ) -> None:
        self.name, self.conv, self.narrowed = name, conv, narrowed
        self._mean = ChannelMean(f"the input of {name}")

    @property
    def listener(self) -> Listener:
        """What takes the means in a run of the original."""
        return self.name, lambda x, _y: self._mean.add(x)

    def solve(self, devices: Devices) -> None:
        """Set the biases by the means over all processes.

        Raises:
            TrainingError: what the conv reads is not finite.
        """
        mean_C = self._mean.take(devices)
        with torch.no_grad():
            for conv, kept in self.narrowed:
                bias = conv.bias
                if isinstance(bias, torch.Tensor):
                    mean_1C = mean_C.to(bias).reshape(1, -1, *[1] * (weight_of(conv).dim() - 2))
                    wanted = self.conv(mean_1C)
                    bias += (wanted - conv(mean_1C[:, kept.to(bias.device)])).flatten()


def gates_to_fit(supernet: Supernet, inner: Sequence[InnerChannels]) -> list[GateFit]:
    """Return the gates of all groups that have a channel pruning.

    Args:
        supernet: its prunings have been filled.
        inner: the inner channels of all these groups, all of them solved.
    """
    waiting, found = iter(inner), list[GateFit]()
    for slot, names in zip(supernet.space.slots, supernet.candidates, strict=True):
        prunings = prunings_of(names)
        if not prunings:
            continue
        for place, sites in enumerate(inner_channels_of(slot)):
            channels = next(waiting)
            kept = {
                k: channels.found[widths(slot, each.keep_ratio)[place]].kept
                for k, each in prunings.items()
            }
            gates = (gate for i in sites[:-1] for gate in slot.sites[i].gates)
            for reduce in (gate.reduce for gate in gates if gate.reduce is not None):
                operations = supernet.mixed(reduce).operations
                narrowed = [(operations[k], numbers) for k, numbers in kept.items()]
                found.append(GateFit(reduce, operations[0], narrowed))
    return found
