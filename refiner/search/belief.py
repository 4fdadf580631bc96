"""What a search believes of losses: estimates as the prior, corrected by the scores so far.

A Bayesian linear regression of the logarithm of the measured loss. Its features are a constant, the
logarithm of the estimate, which slots are swapped, and which swaps are made. The size of the
corrections and of the noise is that of the largest marginal likelihood on a small grid.

Suffixes: M architectures, F features, J candidates of all slots, the originals included.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from refiner.search.effects import Array, Effects
from refiner.search.surface import Surface, log_loss
from refiner.space.architecture import Vector

_CORRECTIONS = (0.03, 0.1, 0.3)
"""Standard deviations of the weight of a slot or a swap: 0.1 is a tenth of the loss."""
_NOISES = (0.03, 0.1, 0.3)
"""Standard deviations of what no feature explains."""
_CONSTANT, _SLOPE = 3.0, 0.3
"""Standard deviations of the constant about 0 and of the slope about 1."""


class Belief:
    """A distribution over surfaces.

    Args:
        effects: the prior.
        vectors: architectures with scores.
        losses: theirs, above 0.
    """

    def __init__(
        self, effects: Effects, vectors: Sequence[Vector], losses: Sequence[float]
    ) -> None:
        self.effects = effects
        self._slots = len(effects.sizes)
        self._swap_J = np.ones(sum(effects.sizes))
        self._swap_J[effects.starts] = 0
        self._feature_MF = self._features(vectors)
        self._target_M = np.log(np.array(losses)) - self._feature_MF[:, 1]
        fits = [self._fit(*sizes) for sizes in itertools.product(_CORRECTIONS, _NOISES)]
        _, self._spread_F, self._noise = max(fits, key=lambda fit: fit[0])

    def mean(self) -> Surface:
        """Return the surface of the mean."""
        return self._surface(self._updated(np.zeros(len(self._spread_F)), 0.0))

    def sample(self, generator: np.random.Generator) -> Surface:
        """Return a surface drawn from the distribution."""
        prior_F = generator.standard_normal(len(self._spread_F)) * self._spread_F
        noise_M = generator.standard_normal(len(self._target_M)) * self._noise
        return self._surface(self._updated(prior_F, noise_M))

    def _features(self, vectors: Sequence[Vector]) -> Array:
        """Return the features of architectures, M x F."""
        count = len(vectors)
        feature_MF = np.zeros((count, 2 + self._slots + len(self._swap_J)))
        if not count:
            return feature_MF
        feature_MF[:, 0], feature_MF[:, 1] = 1, log_loss(self.effects, vectors)
        feature_MF[:, 2 : 2 + self._slots] = np.array(vectors) > 0
        for row, vector in zip(feature_MF, vectors, strict=True):
            row[2 + self._slots + self.effects.columns(vector)] = 1
        feature_MF[:, 2 + self._slots :] *= self._swap_J
        return feature_MF

    def _fit(self, correction: float, noise: float) -> tuple[float, Array, float]:
        """Return the logarithm of the marginal likelihood, up to a constant, and its settings."""
        swaps = np.full(self._feature_MF.shape[1] - 2, correction)
        spread_F = np.concatenate([[_CONSTANT, _SLOPE], swaps])
        covariance_MM = self._covariance(spread_F, noise)
        _, volume = np.linalg.slogdet(covariance_MM)
        explained = self._target_M @ np.linalg.solve(covariance_MM, self._target_M)
        return -float(volume + explained) / 2, spread_F, noise

    def _covariance(self, spread_F: Array, noise: float) -> Array:
        scaled_MF = self._feature_MF * spread_F
        covariance_MM: Array = scaled_MF @ scaled_MF.T + noise**2 * np.eye(len(scaled_MF))
        return covariance_MM

    def _updated(self, prior_F: Array, noise_M: Array | float) -> Array:
        """Return what a draw from the prior becomes once it has to explain the scores.

        Source: Matheron's rule; see Wilson et al., 2020 (arXiv 2002.09309), section 2.
        """
        missing_M = self._target_M - self._feature_MF @ prior_F - noise_M
        solved_M = np.linalg.solve(self._covariance(self._spread_F, self._noise), missing_M)
        updated_F: Array = prior_F + self._spread_F**2 * (self._feature_MF.T @ solved_M)
        return updated_F

    def _surface(self, theta_F: Array) -> Surface:
        by_slot, by_swap_J = theta_F[2 : 2 + self._slots], theta_F[2 + self._slots :]
        weight_J = (np.repeat(by_slot, self.effects.sizes) + by_swap_J) * self._swap_J
        return Surface(
            effects=self.effects, slope=max(1 + theta_F[1], 0.1), weight_J=weight_J,
            constant=float(theta_F[0]),
        )  # fmt: skip
