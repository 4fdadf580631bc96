"""What a refit leaves of losses, learned from architectures that were scored after it.

Least squares make up for more where more weights are left. So the logarithm of the loss after the
refit is taken as linear in that before it, as the search believes it to be, and in the share of the
weights that stays. A Bayesian regression learns the three coefficients.

Suffixes: M architectures, F features, J candidates of all slots, the originals included.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from refiner.search.effects import Array
from refiner.search.surface import Surface
from refiner.space.architecture import Vector

_MEAN_F = np.array([0.0, 0.5, -2.0])
"""Of the constant, the loss before the refit, and the share of the weights, without any score."""
_SPREAD_F = np.array([3.0, 0.3, 2.0])
"""Standard deviations about these means."""
_NOISE = 0.1
"""Standard deviation of what the features leave unexplained."""
_LEAST_SLOPE = 0.05


class AfterRefit:
    """A distribution over surfaces of losses after the refit.

    Args:
        before: surface of the losses without it.
        losses: after it, above 0, of architectures that were scored.
    """

    def __init__(self, before: Surface, losses: Mapping[Vector, float]) -> None:
        self.before = before
        feature_MF = np.array([self._features(v) for v in losses]).reshape(-1, len(_MEAN_F))
        target_M = np.log(np.array(list(losses.values()))) - feature_MF @ _MEAN_F
        precision_FF = feature_MF.T @ feature_MF / _NOISE**2 + np.diag(_SPREAD_F**-2.0)
        self._covariance_FF = np.linalg.inv(precision_FF)
        self._mean_F = _MEAN_F + self._covariance_FF @ feature_MF.T @ target_M / _NOISE**2

    def mean(self) -> Surface:
        """Return the surface of the mean."""
        return self._surface(self._mean_F)

    def sample(self, generator: np.random.Generator) -> Surface:
        """Return a surface drawn from the distribution."""
        drawn_F = generator.multivariate_normal(
            self._mean_F, self._covariance_FF, method="cholesky"
        )
        return self._surface(drawn_F)

    def _features(self, vector: Vector) -> list[float]:
        return [1.0, self.before.value(vector), self.before.effects.weights(vector)]

    def _surface(self, theta_F: Array) -> Surface:
        before, slope = self.before, max(float(theta_F[1]), _LEAST_SLOPE)
        return replace(
            before,
            slope=slope * before.slope,
            constant=float(theta_F[0] + slope * before.constant + theta_F[2]),
            weight_J=slope * before.weight_J + theta_F[2] * before.effects.added_J,
        )
