"""Least squares from moments alone, with a ridge that rows held out have chosen.

The ridge draws the weights to a prior, zero or the weights that a conv had before. It is the one
of a few that gives the least error on the rows held out. Then all rows give the weights.

Suffixes: F features, C targets.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from refiner.distill.moments import Moments

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""In units of the mean second moment of the features, which may be dependent."""
RIDGES_TO_PRIOR = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Where the weights are drawn to good ones."""
_LEAST_VARIANCE = 1e-3
"""Least variance of a target in an error, in units of the mean over the targets."""
_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastSquares:
    """The weights that give targets from features, and how good they are."""

    weight_FC: torch.Tensor
    """From all rows."""
    ridge: float
    """The one chosen, of ``RIDGES``."""
    error: float
    """On the rows held out, of the weights that the other rows give: see :func:`mean_error`."""
    fit_error: float
    """On the rows of the fit, of the same weights."""


def solve(
    fit: Moments, held_out: Moments, prior_FC: torch.Tensor | None = None, *, centred: bool
) -> LeastSquares:
    """Return the weights with the best ridge.

    Args:
        fit: moments of the rows of the fit, not centred.
        held_out: moments of other rows; give those of the fit where there are none.
        prior_FC: what the ridge draws the weights to; None for zero.
        centred: whether a norm or a bias makes the means free.
    """
    both = fit.with_rows(held_out)
    variance_C = both.centred().square_C
    if centred:
        fit, held_out, both = (m.centred() for m in (fit, held_out, both))

    def weights(moments: Moments, ridge: float) -> torch.Tensor:
        equations = ridged(moments, ridge, prior_FC)
        return torch.cholesky_solve(equations.right_FC, equations.factor_FF)

    def error(ridge: float) -> float:
        return mean_error(held_out.error(weights(fit, ridge)), variance_C)

    ridge, least = best_ridge(error, RIDGES if prior_FC is None else RIDGES_TO_PRIOR)
    fit_error = mean_error(fit.error(weights(fit, ridge)), variance_C)
    return LeastSquares(
        weight_FC=weights(both, ridge), ridge=ridge, error=least, fit_error=fit_error
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Equations:
    """Those that the best weights of some moments solve, with a ridge."""

    moments: Moments
    """Without the ridge."""
    prior_FC: torch.Tensor | None
    """What the ridge draws the weights to; None for zero."""
    amount: torch.Tensor
    """The ridge, a scalar."""
    left_FF: torch.Tensor
    """The left side: the moments of the features, with the ridge."""
    factor_FF: torch.Tensor
    """Its lower Cholesky factor."""
    right_FC: torch.Tensor
    """The right side."""

    def error(self, weight_FC: torch.Tensor) -> torch.Tensor:
        """Return what :meth:`Moments.error` does, for weights that solve the equations.

        They give the product with the moments of the features, which is most of the work there.

        Args:
            weight_FC: the solution for all features, or for the first ones alone.
        """
        n = len(weight_FC)
        pull_FC = -weight_FC if self.prior_FC is None else self.prior_FC[:n] - weight_FC
        rest_FC = self.amount * pull_FC - self.moments.cross_FC[:n]
        return (self.moments.square_C + (weight_FC * rest_FC).sum(0)).clamp(min=0)


def ridged(moments: Moments, ridge: float, prior_FC: torch.Tensor | None) -> Equations:
    """Return the equations for the weights.

    Products of float32 may leave dependent features slightly indefinite, by more than a small
    ridge. So the ridge is raised until there is a factor.

    Args:
        moments: of features and targets.
        ridge: in units of the mean second moment of the features.
        prior_FC: what the ridge draws the weights to; None for zero.
    """
    diagonal_F = moments.gram_FF.diagonal()
    amount = (ridge * diagonal_F.mean()).clamp(min=_TINY)
    left_FF = moments.gram_FF.clone()
    while True:
        left_FF.diagonal().copy_(diagonal_F + amount)
        factor_FF, failed = torch.linalg.cholesky_ex(left_FF)
        if not failed:
            break
        amount = 10 * amount
    right_FC = moments.cross_FC if prior_FC is None else moments.cross_FC + amount * prior_FC
    return Equations(
        moments=moments,
        prior_FC=prior_FC,
        amount=amount,
        left_FF=left_FF,
        factor_FF=factor_FF,
        right_FC=right_FC,
    )


def best_ridge(
    error: Callable[[float], float], ridges: Sequence[float] = RIDGES
) -> tuple[float, float]:
    """Return the ridge with the least error, and that error.

    The error falls and then rises as the ridge grows, so the first rise ends the search.
    """
    best, least = ridges[0], math.inf
    for ridge in ridges:
        found = error(ridge)
        if not found < least:
            break
        best, least = ridge, found
    return best, least


def mean_error(error_C: torch.Tensor, variance_C: torch.Tensor) -> float:
    """Return the mean over the targets of the squared error over the variance.

    A target that hardly varies counts by a share of the mean variance.
    """
    least = _LEAST_VARIANCE * variance_C.mean() + _TINY
    return float((error_C / variance_C.clamp(min=least)).mean())
