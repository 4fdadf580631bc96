"""Fits what remains of a removed branch: the mean of each channel of the branch's output.

Of all constants the mean has the least squared error. Its error is the variance, so it is 1 in the
unit of ``candidate_fit.py``.
"""

from collections.abc import Sequence

import torch

from refiner.core.errors import TrainingError
from refiner.space.candidates import NO_BRANCH
from refiner.space.constants import Constant
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices


class BranchMean:
    """The mean of what a residual branch gives, over batches.

    Args:
        name: of the branch's last norm or conv, whose output is read.
        conv: name of its last conv.
        constant: what takes the mean.
    """

    def __init__(self, name: str, conv: str, constant: Constant) -> None:
        self.name, self.conv, self.constant = name, conv, constant
        self._sum: torch.Tensor | None = None

    def accumulate(self, _x: torch.Tensor, y: torch.Tensor) -> None:
        """Add one output of the branch, N x C x spatial."""
        sum_C = y.sum([d for d in range(y.dim()) if d != 1], dtype=torch.float64)
        both = torch.cat([sum_C, sum_C.new_tensor([y.numel() / len(sum_C)])])
        self._sum = both if self._sum is None else self._sum + both

    def solve(self, devices: Devices) -> None:
        """Set the constant to the mean over all processes, and start a new sum.

        Raises:
            TrainingError: the output of the branch is not finite.
        """
        assert self._sum is not None
        total = devices.summed(self._sum)
        self._sum = None
        if not bool(total.isfinite().all()):
            raise TrainingError(
                f"the output of {self.name} is not finite, so no candidate can be fitted to it. "
                "Check the weights of the model and the data."
            )
        value = self.constant.value
        with torch.no_grad():
            value.copy_((total[:-1] / total[-1]).reshape(value.shape))


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
