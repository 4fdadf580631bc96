"""An exponential moving average of a network's weights, its norms' statistics included.

The average follows closely at first, so that a short training does not end near its start: after
t steps the decay is (1 + t) / (10 + t), until it reaches the one that was asked for.

Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992. The decay
rises as in TensorFlow's ``ExponentialMovingAverage``.
"""

from collections.abc import Sequence

import torch
from torch import nn

from refiner.core.types import StateDict
from refiner.training.buckets import replace_by
from refiner.training.devices import Devices


class MovingAverage:
    """The moving average of what modules hold: parameters and buffers.

    Args:
        modules: on the device; their values are where the average starts.
        decay: share of the average that stays at each step, below 1.
        devices: where.
    """

    def __init__(self, modules: Sequence[nn.Module], decay: float, devices: Devices) -> None:
        self._decay, self._devices = decay, devices
        self._values = [
            value for module in modules for value in (*module.parameters(), *module.buffers())
        ]
        self._averages = [value.detach().clone() for value in self._values]
        self._steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for average, value in zip(self._averages, self._values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:  # numbers of batches, which a mean would make fractions of
                average.copy_(value)

    def agree(self) -> None:
        """Average over all processes, whose norms see different batches."""
        if self._devices.processes > 1:
            real = [average for average in self._averages if average.is_floating_point()]
            replace_by(self._devices.mean, real)

    @torch.no_grad()
    def put_in_place(self) -> None:
        """Give the modules the averages for weights."""
        for average, value in zip(self._averages, self._values, strict=True):
            value.copy_(average)

    def state_dict(self) -> StateDict:
        """Return the averages and the number of steps."""
        return {"averages": self._averages, "steps": self._steps}

    def load_state_dict(self, state: StateDict) -> None:
        """Take over what :meth:`state_dict` returned."""
        for average, value in zip(self._averages, state["averages"], strict=True):
            average.copy_(value)
        self._steps = int(state["steps"])
