"""ConvFit: one conv of a slot, and the fits of all candidates that may replace it.

The kind of a candidate decides how it is fitted; see ``candidate_fit.py``.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import nn

from refiner.core.layers import CONV_TYPES
from refiner.distill.candidate_fit import (
    CandidateFit,
    Conv,
    LearnedFit,
    LeastSquaresFit,
    LowRankFit,
    relative_error,
)
from refiner.distill.depthwise import DepthwiseFit
from refiner.distill.grouped import GroupedFit
from refiner.distill.sum_table import SumTable
from refiner.graph.conv_spec import ConvSpec, conv_spec
from refiner.space.operations import LowRank, Pad
from refiner.training.devices import Devices


class ConvFit:
    """One conv of a slot and the candidates that may replace it.

    Args:
        name: of the conv.
        conv: the conv.
        operations: the candidates by name; they are changed in place.
        table: of the sums that the closed forms need.
        centred: whether the next layer subtracts the mean of each channel.
        merged: names of those candidates that read the input of the conv's group.
    """

    def __init__(
        self,
        name: str,
        conv: nn.Module,
        operations: Mapping[str, nn.Module],
        table: SumTable,
        *,
        centred: bool,
        merged: Collection[str] = (),
    ) -> None:
        self.name = name
        self.fits: dict[str, CandidateFit] = {
            candidate: _fit_of(
                name, conv, operation, table, centred=centred, passed=candidate in merged
            )
            for candidate, operation in operations.items()
        }
        self._measured: dict[str, list[torch.Tensor]] = {}

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters that Adam learns."""
        return [parameter for fit in self.fits.values() for parameter in fit.parameters()]

    def add_gradients(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add the gradients of the errors of the candidates that Adam learns."""
        for fit in self.fits.values():
            if fit.parameters():
                with torch.enable_grad():
                    relative_error(fit.operation(x), y, centred=fit.centred).backward()

    @property
    def is_measured(self) -> bool:
        """Whether :meth:`measure` has to run, as a candidate has no closed form."""
        return any(fit.sums is None for fit in self.fits.values())

    def measure(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Note the errors on one batch of the candidates without a closed form."""
        for name, fit in self.fits.items():
            if fit.sums is None:
                error = relative_error(fit.operation(x), y, centred=fit.centred)
                self._measured.setdefault(name, []).append(error.detach().double())

    def errors(self, devices: Devices) -> dict[str, float]:
        """Return the error of each candidate on rows or batches that were held out."""
        found = {name: fit.error for name, fit in self.fits.items()}
        for name, errors in self._measured.items():
            found[name] = float(devices.mean(torch.stack(errors).mean()))
        return found


def _fit_of(
    name: str,
    conv: nn.Module,
    operation: nn.Module,
    table: SumTable,
    *,
    centred: bool,
    passed: bool,
) -> CandidateFit:
    """Return the fit for the kind of a candidate; one that is passed its input has closed forms."""
    modules = list(operation) if isinstance(operation, nn.Sequential) else [operation]
    last = modules[-1] if modules else None
    if isinstance(operation, LowRank) and isinstance(conv, Conv) and is_plain(conv):
        outputs = _pointwise_spec(conv)
        sums = table.sums(name, outputs, conv.out_channels, before=conv)
        return LowRankFit(conv, operation, sums, centred=centred)
    if not isinstance(last, Conv) or not is_plain(last):
        return LearnedFit(operation, centred=centred)
    before = nn.Sequential(*modules[:-1]) if modules[:-1] else None
    if last.groups != 1:
        if before is not None and any(True for _ in before.parameters()):
            return LearnedFit(operation, centred=centred)
        spec = conv_spec(last)
        unknowns = spec.in_channels // spec.groups * math.prod(spec.kernel_size)
        grouped = table.grouped_sums(name, spec, unknowns, before=before)
        return GroupedFit(operation, last, grouped, centred=centred)
    depthwise = _depthwise(modules[:-1])
    if depthwise is not None and set(last.kernel_size) == {1}:
        module, spec = depthwise
        # As many as there are unknowns for each output; more rows hardly make it better.
        kernels = spec.in_channels * math.prod(spec.kernel_size)
        unknowns = spec.in_channels + kernels // last.out_channels
        spec = replace(spec, out_channels=last.out_channels)
        sums = table.sums(name, spec, unknowns, passed=passed)
        return DepthwiseFit(operation, module, last, sums, centred=centred)
    spec = conv_spec(last)
    unknowns = spec.in_channels * math.prod(spec.kernel_size)
    sums = table.sums(name, spec, unknowns, before=before, passed=passed)
    return LeastSquaresFit(operation, last, sums, centred=centred)


def _depthwise(modules: list[nn.Module]) -> tuple[Conv, ConvSpec] | None:
    """Return a depthwise conv and what it reads, if it is all there is, with a :class:`Pad`."""
    pad = modules[0] if modules and isinstance(modules[0], Pad) else None
    conv = modules[-1] if modules else None
    if len(modules) != 1 + (pad is not None) or not isinstance(conv, Conv) or not is_plain(conv):
        return None
    if conv.bias is not None or not conv.groups == conv.in_channels == conv.out_channels:
        return None
    spec = conv_spec(conv)
    if pad is None:
        return conv, spec
    if any(sum(pair) for pair in spec.padding):
        return None
    mode = "zeros" if pad.mode == "constant" else pad.mode
    flat = pad.amounts[::-1]  # after, before; first dimension first
    padding = tuple((flat[i + 1], flat[i]) for i in range(0, len(flat), 2))
    return conv, replace(spec, padding=padding, padding_mode=mode)


def _pointwise_spec(conv: Conv) -> ConvSpec:
    """Return the spec of a pointwise conv over the output channels of a conv."""
    one = (1,) * len(conv.kernel_size)
    return replace(
        conv_spec(conv),
        in_channels=conv.out_channels,
        kernel_size=one,
        stride=one,
        dilation=one,
        padding=((0, 0),) * len(one),
        padding_mode="zeros",
    )


def is_plain(conv: nn.Module) -> bool:
    """Return whether a conv uses its ``weight`` as it is; a subclass may compute another one."""
    return any(
        isinstance(conv, kind)
        and type(conv).forward is kind.forward
        and type(conv)._conv_forward is kind._conv_forward
        for kind in CONV_TYPES
    )
