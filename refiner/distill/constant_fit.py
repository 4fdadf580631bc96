"""Fits what remains of a removed branch: the mean of each channel of the branch's output.

Of all constants the mean has the least squared error. Its error is the variance, so it is 1 in the
unit of ``candidate_fit.py``.
"""

from collections.abc import Sequence

import torch

from refiner.core.errors import TrainingError
from refiner.distill.original import Listener
from refiner.space.candidates import NO_BRANCH
from refiner.space.constants import Constant
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices


class ChannelMean:
    """The mean of each channel over batches.

    Args:
        what: is averaged, for messages.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._sum: torch.Tensor | None = None

    def add(self, x: torch.Tensor) -> None:
        """Add numbers, N x C x spatial."""
        sum_C = x.sum([d for d in range(x.dim()) if d != 1], dtype=torch.float64)
        both = torch.cat([sum_C, sum_C.new_tensor([x.numel() / len(sum_C)])])
        self._sum = both if self._sum is None else self._sum + both

    def take(self, devices: Devices) -> torch.Tensor:
        """Return the means over all processes, float64, and start new sums.

        Raises:
            TrainingError: they are not finite.
        """
        assert self._sum is not None
        total = devices.summed(self._sum)
        self._sum = None
        if not bool(total.isfinite().all()):
            raise TrainingError(
                f"{self.what} is not finite, so no candidate can be fitted to it. Check the "
                "weights of the model and the data."
            )
        return total[:-1] / total[-1]


class BranchMean:
    """The mean of what a residual branch gives, over batches.

    Args:
        name: of the branch's last norm or conv, whose output is read.
        conv: name of its last conv.
        constant: what takes the mean.
    """

    def __init__(self, name: str, conv: str, constant: Constant) -> None:
        self.name, self.conv, self.constant = name, conv, constant
        self._mean = ChannelMean(f"the output of {name}")

    @property
    def listener(self) -> Listener:
        """What takes the mean in a run of the original."""
        return self.name, lambda _x, y: self._mean.add(y)

    def solve(self, devices: Devices) -> None:
        """Set the constant to the mean over all processes, and start a new sum.

        Raises:
            TrainingError: the output of the branch is not finite.
        """
        mean_C, value = self._mean.take(devices), self.constant.value
        with torch.no_grad():
            value.copy_(mean_C.reshape(value.shape))


def branch_means_to_fit(supernet: Supernet) -> list[BranchMean]:
    """Return the means of all branches that have a candidate without them."""
    return [
        BranchMean(slot.output, slot.sites[-1].conv, module)
        for slot, names in zip(supernet.space.slots, supernet.candidates, strict=True)
        if NO_BRANCH in names
        for module in supernet.mixed(slot.sites[-1].conv)
        .operations[names.index(NO_BRANCH)]
        .modules()
        if isinstance(module, Constant)
    ]


def fit_branch_means(means: Sequence[BranchMean], devices: Devices) -> dict[str, dict[str, float]]:
    """Fit the means, and return the error of each by the name of the branch's last conv."""
    for each in means:
        each.solve(devices)
    return {each.conv: {NO_BRANCH: 1.0} for each in means}
