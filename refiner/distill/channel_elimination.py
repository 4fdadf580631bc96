"""Elimination: which input channels a conv can do without, and the best weights for the others.

The output of a conv is linear in the patches that it reads. So the error without a channel, with
the best weights for the others, follows from the second moments of the patches alone. The channels
that cost least are dropped, the weights of the others are adjusted, and so on.

The channels kept at one width are kept at all larger ones. So one Cholesky factor, of the moments
in the order of the channels, gives the weights at every width. Their ridge draws them to the
weights that the conv had, and rows held out choose it for each width.

Source: Hassibi and Stork, Optimal Brain Surgeon, 1993; for groups of weights at once, Kurtic et
al., ZipLM, 2023 (arXiv 2302.04089), section 3.1.
Suffixes: F features (channels x positions of the kernel), C channels, K positions of the kernel,
O outputs, R the features that stay.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch

from refiner.distill.least_squares import RIDGES, Equations, mean_error, ridged
from refiner.distill.moments import Moments

_ORDER_RIDGE = 1e-5
"""Ridge while channels are dropped, in units of the mean second moment."""
_BLOCKS = 64
"""A step drops this part of the channels, or one: many steps over wide convs would take minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced:
    """A conv that reads only some of its input channels."""

    kept: torch.Tensor
    """Numbers of the channels that it reads, in ascending order."""
    weight_OF: torch.Tensor
    """Weights for all channels, zero for those that it does not read; from all rows."""
    error: float
    """Squared error over the variance of the original output, mean over the outputs, on the rows
    held out: of the weights that the rows of the fit give."""
    fit_error: float
    """The same on the rows of the fit."""


def eliminate(
    weight_OF: torch.Tensor,
    fit: Moments,
    held_out: Moments,
    channels: int,
    widths: Collection[int],
    *,
    centred: bool,
) -> dict[int, Reduced]:
    """Return the reduced conv for each of several numbers of channels.

    Args:
        weight_OF: weights of the conv; the features of a channel are neighbours.
        fit: moments of the patches and the wanted outputs, not centred.
        held_out: moments of other rows; give those of the fit where there are none.
        channels: number of input channels.
        widths: numbers of channels to return a conv for, each 1 or more.
        centred: whether the mean of the output does not matter.

    Returns:
        The reduced convs by number of channels.
    """
    both = fit.with_rows(held_out)
    variance_O = both.centred().square_C
    if centred:
        fit, held_out, both = (m.centred() for m in (fit, held_out, both))
    prior_FO = weight_OF.to(both.gram_FF).T
    order = _order(prior_FO, both, variance_O, channels, min(widths))
    size = len(prior_FO) // channels
    order_F = (order[:, None] * size + torch.arange(size, device=order.device)).flatten()
    order_F = order_F[: max(widths) * size]
    fit, held_out, both = (m.of_features(order_F) for m in (fit, held_out, both))
    prior_FO = prior_FO[order_F]

    chosen = _ridges(fit, held_out, prior_FO, variance_O, {w: w * size for w in widths})
    found = {}
    for ridge in {choice.ridge for choice in chosen.values()}:
        counts = {w: w * size for w in widths if chosen[w].ridge == ridge}
        for width, weight_RO in _weights(ridged(both, ridge, prior_FO), counts).items():
            weight_FO = torch.zeros_like(weight_OF.T, dtype=torch.float64, device=order.device)
            found[width] = Reduced(
                kept=order[:width].sort().values.cpu(),
                weight_OF=weight_FO.index_copy_(0, order_F[: width * size], weight_RO).T,
                error=chosen[width].error,
                fit_error=chosen[width].fit_error,
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """The ridge that is best for the rows held out, and the errors with it."""

    ridge: float
    error: float
    fit_error: float


def _ridges(
    fit: Moments,
    held_out: Moments,
    prior_FO: torch.Tensor,
    variance_O: torch.Tensor,
    counts: dict[int, int],
) -> dict[int, _Choice]:
    """Return the best ridge for each number of features; see :func:`eliminate`."""
    best: dict[int, _Choice] = {}
    open_counts = dict(counts)
    for ridge in RIDGES:
        equations = ridged(fit, ridge, prior_FO)
        for key, weight_RO in _weights(equations, open_counts).items():
            error = mean_error(held_out.error(weight_RO), variance_O)
            if key in best and not error < best[key].error:
                del open_counts[key]  # it falls and then rises, as the ridge grows
            else:
                fit_error = mean_error(equations.error(weight_RO), variance_O)
                best[key] = _Choice(ridge=ridge, error=error, fit_error=fit_error)
        if not open_counts:
            break
    return best


def _weights(equations: Equations, counts: dict[int, int]) -> dict[int, torch.Tensor]:
    """Return the best weights of the first features, R x O, for several numbers of features.

    Args:
        equations: of all features.
        counts: numbers of features, by the key of the result.
    """
    factor_FF = equations.factor_FF
    half_FO = torch.linalg.solve_triangular(factor_FF, equations.right_FC, upper=False)
    return {
        key: torch.linalg.solve_triangular(factor_FF[:n, :n].T, half_FO[:n], upper=True)
        for key, n in counts.items()
    }


def _order(
    prior_FO: torch.Tensor, moments: Moments, variance_O: torch.Tensor, channels: int, least: int
) -> torch.Tensor:
    """Return the numbers of the channels, those that are dropped first last.

    Args:
        prior_FO: weights before.
        moments: of the features and outputs.
        variance_O: variance of the outputs.
        channels: how many there are.
        least: how many stay to the end, in ascending order.
    """
    equations = ridged(moments, _ORDER_RIDGE, prior_FO)
    factor_FF = equations.factor_FF
    scale_O = variance_O.clamp(min=1e-12 + 1e-3 * variance_O.mean()).sqrt()
    left_OF = (torch.cholesky_solve(equations.right_FC, factor_FF) / scale_O).T.contiguous()
    inverse_FF = torch.cholesky_inverse(factor_FF)
    numbers = torch.arange(channels, device=factor_FF.device)
    """Numbers of the channels in ``inverse_FF`` and ``left_OF``."""
    alive_C = torch.ones_like(numbers, dtype=torch.bool)
    """Whether each of them is still read."""
    dropped: list[torch.Tensor] = []
    count = channels
    while count > least:
        block = min(max(1, channels // _BLOCKS), count - least)
        places = _drop(inverse_FF, left_OF, alive_C, block)
        dropped.append(numbers[places])
        count -= block
        if count <= 7 / 8 * len(alive_C):  # the dropped ones only cost time
            alive_F = alive_C.repeat_interleave(len(inverse_FF) // len(alive_C))
            inverse_FF, left_OF = inverse_FF[alive_F][:, alive_F], left_OF[:, alive_F]
            numbers = numbers[alive_C]
            alive_C = torch.ones_like(numbers, dtype=torch.bool)
    return torch.cat([numbers[alive_C], *reversed(dropped)])


def _drop(
    inverse_FF: torch.Tensor, left_OF: torch.Tensor, alive_C: torch.Tensor, block: int
) -> torch.Tensor:
    """Drop the channels that cost least; update the inverse moments and the weights in place.

    The entries of dropped channels in both are meaningless and have no effect.

    Returns:
        The places of the dropped channels, the dearest first.
    """
    size = len(inverse_FF) // len(alive_C)
    places = alive_C.nonzero().flatten()
    blocks = inverse_FF.unflatten(0, (-1, size)).unflatten(2, (-1, size))
    exact_CKK = torch.linalg.inv(blocks[places, :, places])
    weight_COK = left_OF.unflatten(1, (-1, size)).transpose(0, 1)[places]
    costs_C = (weight_COK @ exact_CKK * weight_COK).sum((1, 2))
    least = places[costs_C.argsort(stable=True)[:block]].flip(0)
    alive_C[least] = False
    features = (least[:, None] * size + torch.arange(size, device=least.device)).flatten()
    columns_FR = inverse_FF[:, features]
    share_FR = torch.linalg.solve(columns_FR[features], columns_FR.T).T
    left_OF.addmm_(left_OF[:, features], share_FR.T, alpha=-1)
    inverse_FF.addmm_(share_FR, columns_FR.T, alpha=-1)
    return least
