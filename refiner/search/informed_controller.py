"""The controller, trained on estimated effects of swaps before it learns from scores.

An untrained policy is uniform over the budget, and a few hundred scores move it little. Estimated
losses cost nothing, so the same policy gradient first runs on them for thousands of samples
(:mod:`refiner.search.effects`). Its reward is minus the logarithm of the estimate, which is even
over losses of any size. Then it goes on with scores.

A few single swaps are scored first, as in :mod:`refiner.search.around_budget`. If they contradict
the estimates, or there are none, it stays the plain controller.
"""

from collections.abc import Sequence
from typing import Any

from refiner.cost.feasible import FeasibleSet
from refiner.search.effects import Effects
from refiner.search.effects_check import LEAST_TAU, EffectsCheck
from refiner.search.policy_gradient import ControllerConfig, ControllerStrategy
from refiner.search.scores import Scores
from refiner.search.strategy import Choices
from refiner.search.surface import log_loss
from refiner.space.architecture import Vector

STEPS = 400
"""Steps of policy gradient on estimates."""
SAMPLES = 20
"""Architectures of each, as many as in ENAS."""


class InformedController(ControllerStrategy):
    """A controller whose policy begins with what estimates favour.

    Its arguments are those of :class:`refiner.search.policy_gradient.ControllerStrategy`.
    """

    same_images = True  # the check compares scores of different updates
    instead = "the policy began without estimates, as that of controller"
    """What it does without estimates, for people."""

    def __init__(
        self,
        choices: Choices,
        *,
        seed: int = 0,
        config: ControllerConfig | None = None,
        feasible: FeasibleSet | None = None,
    ) -> None:
        super().__init__(choices, seed=seed, config=config, feasible=feasible)
        self.check: EffectsCheck | None = None
        """Of estimates that the policy has still to learn."""
        self.checked = Scores()
        """Of the swaps of the check. They may exceed the budget, so none is recommended."""
        self.refused: float | None = None
        """Kendall's tau of estimates that were not used, with scores."""

    def inform(self, effects: Effects) -> None:
        """Learn estimated effects as soon as a few scores agree with them."""
        self.check = EffectsCheck(effects)

    def ask(self, count: int) -> list[Vector]:
        """Return what the check lacks, and then architectures drawn from the policy."""
        swaps = self._unchecked()[:count]
        return swaps + self._draw(count - len(swaps)) if len(swaps) < count else swaps

    def tell(self, vectors: Sequence[Vector], scores: Sequence[float]) -> None:
        """Take a step of policy gradient, or many on the estimates once their check is complete."""
        unchecked = set(self._unchecked())
        drawn = []
        for vector, score in zip(vectors, scores, strict=True):
            if vector in unchecked:
                unchecked.remove(vector)
                self.checked.add([vector], [score])
            else:
                drawn.append((vector, score))
        if drawn:
            super().tell(*zip(*drawn, strict=True))
        rank = None if self.check is None else self.check.rank(self.checked)
        if self.check is not None and rank is not None:
            effects, self.check = self.check.effects, None
            if rank < LEAST_TAU:
                self.refused = rank
            else:
                self._learn_effects(effects)

    def _unchecked(self) -> list[Vector]:
        return [] if self.check is None else self.check.missing(self.checked)

    def _learn_effects(self, effects: Effects) -> None:
        """Take the steps on estimates; the averages of rewards are those of estimates, so they
        go."""
        self._begin_training()
        for _ in range(STEPS):
            vectors = self._draw(SAMPLES)
            self._learn(vectors, (-log_loss(effects, vectors)).tolist())
        self._begin_training()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the controller, and what is left of the check."""
        effects = None if self.check is None else self.check.effects.state_dict()
        informed = {
            "effects": effects,
            "checked": self.checked.state_dict(),
            "refused": self.refused,
        }
        return {**super().state_dict(), **informed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        super().load_state_dict(state)
        self.checked.load_state_dict(state["checked"])
        self.check, self.refused = None, state["refused"]
        if state["effects"] is not None:
            self.check = EffectsCheck(Effects.of_state(state["effects"]))
