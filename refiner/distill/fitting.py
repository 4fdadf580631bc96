"""ConvFit: one conv of a slot, and the fits of all candidates that may replace it.

The kind of a candidate decides how it is fitted; see ``candidate_fit.py``.
"""

from collections.abc import Mapping

import torch
from torch import nn

from refiner.core.layers import CONV_TYPES
from refiner.distill.candidate_fit import (
    CandidateFit,
    Conv,
    LearnedFit,
    LeastSquaresFit,
    LowRankFit,
    rows,
)
from refiner.space.operations import LowRank
from refiner.training.devices import Devices

_NO_PADDING: tuple[str | tuple[int, ...], ...] = ((0,), (0, 0), (0, 0, 0), "valid", "same")


class ConvFit:
    """One conv of a slot and the candidates that may replace it.

    Args:
        name: of the conv.
        conv: the conv.
        operations: the candidates by name; they are changed in place.
        centred: whether the next layer subtracts the mean of each channel.
    """

    def __init__(
        self, name: str, conv: nn.Module, operations: Mapping[str, nn.Module], *, centred: bool
    ) -> None:
        self.name = name
        self.fits: dict[str, CandidateFit] = {
            candidate: _fit_of(name, conv, operation, centred=centred)
            for candidate, operation in operations.items()
        }
        self._errors = torch.zeros(len(self.fits), dtype=torch.float64)
        self._batches = 0

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters that Adam learns."""
        return [parameter for fit in self.fits.values() for parameter in fit.parameters()]

    def accumulate(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add an input and an output of the conv to the sums of the closed forms."""
        target_PC = rows(y)
        for fit in self.fits.values():
            fit.accumulate(x, target_PC)

    def solve(self, devices: Devices) -> None:
        """Set the weights that the closed forms give, and start new sums.

        Raises:
            TrainingError: the output of the conv is not finite.
        """
        for fit in self.fits.values():
            fit.solve(devices)

    def add_gradients(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add the gradients of the errors of the candidates that Adam learns."""
        for fit in self.fits.values():
            if fit.parameters():
                with torch.enable_grad():
                    fit.error(x, y).backward()

    def measure(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add the errors on one batch to those that :meth:`errors` returns."""
        self._errors = self._errors.to(x.device)
        for i, fit in enumerate(self.fits.values()):
            self._errors[i] += fit.error(x, y).detach()
        self._batches += 1

    def errors(self, devices: Devices) -> dict[str, float]:
        """Return the mean error of each candidate over the measured batches."""
        values = devices.mean(self._errors / max(1, self._batches)).tolist()
        return dict(zip(self.fits, values, strict=True))


def _fit_of(name: str, conv: nn.Module, operation: nn.Module, *, centred: bool) -> CandidateFit:
    """Return the fit for the kind of a candidate."""
    if isinstance(operation, LowRank) and isinstance(conv, Conv) and _uses_its_weight(conv):
        return LowRankFit(name, conv, operation, centred=centred)
    pointwise = _last_pointwise(operation)
    if pointwise is not None:
        return LeastSquaresFit(name, operation, pointwise, centred=centred)
    return LearnedFit(operation, centred=centred)


def _uses_its_weight(conv: nn.Module) -> bool:
    """Return whether a conv uses its ``weight`` as it is; a subclass may compute another one."""
    return any(
        isinstance(conv, kind)
        and type(conv).forward is kind.forward
        and type(conv)._conv_forward is kind._conv_forward
        for kind in CONV_TYPES
    )


def _last_pointwise(operation: nn.Module) -> Conv | None:
    """Return the dense 1x1 conv that an operation ends in; None where it ends otherwise."""
    last = operation[-1] if isinstance(operation, nn.Sequential) and len(operation) else operation
    if not isinstance(last, Conv) or last.groups != 1 or last.padding not in _NO_PADDING:
        return None
    return last if set(last.kernel_size) == set(last.stride) == {1} else None
