"""Elimination: which input channels a conv can do without, and the best weights for the others.

The output of a conv is linear in the patches that it reads. So the error without a channel, with
the best weights for the others, follows from the second moments of the patches alone. The channel
that costs least is dropped, the weights of the others are adjusted, and so on.

Source: Hassibi and Stork, Optimal Brain Surgeon, 1993; for groups of weights at once, Kurtic et
al., ZipLM, 2023 (arXiv 2302.04089), section 3.1.
Suffixes: F features (channels x positions of the kernel), C channels, K positions of the kernel,
O outputs.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch

from refiner.graph.conv_spec import ConvSpec
from refiner.space.operations import Pad

_RIDGE = 1e-5
"""In units of the mean variance of the features, which may be dependent."""
_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced:
    """A conv that reads only some of its input channels."""

    kept: torch.Tensor
    """Numbers of the channels that it reads, in ascending order."""
    weight_OF: torch.Tensor
    """Weights for all channels, zero for those that it does not read."""
    error: float
    """Squared error over the variance of the original output, mean over the outputs."""


def eliminate(
    weight_OF: torch.Tensor,
    moment_FF: torch.Tensor,
    variance_O: torch.Tensor,
    channels: int,
    widths: Collection[int],
) -> dict[int, Reduced]:
    """Return the reduced conv for each of several numbers of channels.

    Args:
        weight_OF: weights of the conv; the features of a channel are neighbours.
        moment_FF: second moments of the features. Give them about the means where the mean of the
            output does not matter.
        variance_O: variance of the output.
        channels: number of input channels.
        widths: numbers of channels to return a conv for, each 1 or more.

    Returns:
        The reduced convs by number of channels.
    """
    weight_OF, moment_FF, variance_O = (t.double() for t in (weight_OF, moment_FF, variance_O))
    features = len(moment_FF)
    scale_O = variance_O.clamp(min=_TINY + 1e-3 * variance_O.mean()).sqrt()
    ridge = (_RIDGE * moment_FF.diagonal().mean()).clamp(min=_TINY)
    moment_FF = moment_FF + ridge * torch.eye(features, dtype=torch.float64)
    inverse_FF = torch.cholesky_inverse(torch.linalg.cholesky(moment_FF))
    left_OF = weight_OF / scale_O[:, None]
    numbers = torch.arange(channels)
    """Numbers of the channels in ``inverse_FF`` and ``left_OF``."""
    alive_C = torch.ones(channels, dtype=torch.bool)
    """Whether each of them is still read."""
    found: dict[int, Reduced] = {}
    for count in range(channels, min(widths) - 1, -1):
        if count < channels:
            _drop_one(inverse_FF, left_OF, alive_C)
        if count in widths:
            found[count] = _reduced(weight_OF, moment_FF, scale_O, numbers[alive_C], channels)
        if count <= 7 / 8 * len(alive_C):  # the dropped ones only cost time
            alive_F = alive_C.repeat_interleave(len(inverse_FF) // len(alive_C))
            inverse_FF, left_OF = inverse_FF[alive_F][:, alive_F], left_OF[:, alive_F]
            numbers = numbers[alive_C]
            alive_C = torch.ones_like(numbers, dtype=torch.bool)
    return found


def _drop_one(inverse_FF: torch.Tensor, left_OF: torch.Tensor, alive_C: torch.Tensor) -> None:
    """Drop the channel that costs least; update the inverse moments and the weights in place.

    The entries of dropped channels in both are meaningless and have no effect.
    """
    numbers = alive_C.nonzero().flatten()
    size = len(inverse_FF) // len(alive_C)
    blocks = inverse_FF.unflatten(0, (-1, size)).unflatten(2, (-1, size))
    block_CKK = blocks[numbers, :, numbers]
    weight_COK = left_OF.unflatten(1, (-1, size)).transpose(0, 1)[numbers]
    exact_CKK = torch.linalg.inv(block_CKK)
    costs_C = (weight_COK @ exact_CKK * weight_COK).sum((1, 2))
    least = int(costs_C.argmin())
    channel = int(numbers[least])
    alive_C[channel] = False
    columns_FK = inverse_FF[:, channel * size : (channel + 1) * size].clone()
    share_FK = columns_FK @ exact_CKK[least]
    left_OF.addmm_(weight_COK[least], share_FK.T, alpha=-1)
    inverse_FF.addmm_(share_FK, columns_FK.T, alpha=-1)


def _reduced(
    weight_OF: torch.Tensor,
    moment_FF: torch.Tensor,
    scale_O: torch.Tensor,
    kept: torch.Tensor,
    channels: int,
) -> Reduced:
    """Return the conv with the best weights for the channels in ``kept``, solved from scratch."""
    features = torch.arange(len(moment_FF)).unflatten(0, (channels, -1))[kept].flatten()
    best_OF = torch.zeros_like(weight_OF)
    factor = torch.linalg.cholesky(moment_FF[features][:, features])
    best_OF[:, features] = torch.cholesky_solve(moment_FF[features] @ weight_OF.T, factor).T
    off_OF = (best_OF - weight_OF) / scale_O[:, None]
    error = float((off_OF @ moment_FF * off_OF).sum(1).mean())
    return Reduced(kept=kept, weight_OF=best_OF, error=error)


def patches(
    x: torch.Tensor, spec: ConvSpec, count: int, generator: torch.Generator
) -> torch.Tensor:
    """Return what a conv reads at some of its output positions, at most ``count`` x F.

    Args:
        x: input of the conv, N x C x spatial.
        spec: of the conv, which has one group.
        count: how many positions are drawn; if there are no more, all are taken.
        generator: draws them.
    """
    x = Pad(spec.padding, spec.padding_mode)(x)
    dims = len(spec.kernel_size)
    for d, (k, step, gap) in enumerate(
        zip(spec.kernel_size, spec.stride, spec.dilation, strict=True)
    ):
        x = x.unfold(2 + d, gap * (k - 1) + 1, step)[..., ::gap]
    x = x.movedim(1, dims + 1)  # N x positions x C x kernel
    sizes = x.shape[: dims + 1]
    total = math.prod(sizes)
    if total <= count:
        return x.reshape(total, -1)
    drawn = torch.randint(total, (count,), generator=generator)
    where = torch.unravel_index(drawn.to(x.device), sizes)
    return x[where].flatten(1)
