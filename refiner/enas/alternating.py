"""Alternating optimisation of two domains, say operators and skips (section 3.3, equations 9 to
11).

Two controllers, one a domain, take turns. While one moves, the other domain stays as it is in the
best architecture; so what a phase ends with is never worse than what it began with (equation 11).
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refiner.core.errors import ConfigError
from refiner.core.randomness import derive_seed
from refiner.search.policy_gradient import ControllerConfig, ControllerStrategy
from refiner.search.scores import Scores
from refiner.search.strategy import Choices
from refiner.space.architecture import Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """How a phase ended."""

    domain: str
    """What moved: ``operators`` or ``skips``."""
    reward: float
    """The best so far."""
    vector: Vector
    """What had it; the next phase fixes its part of ``domain``."""


class AlternatingStrategy:
    """Moves one domain for some updates, then the other, beginning with the operators.

    Skips are fixed at index 0 at first: the original model, or in a macro space a plain sequence.
    An evaluated architecture that differs from the fixed part is no lesson for the controller,
    since its score belongs to another fixed part; it may become the best all the same.

    Args:
        choices: names of the candidates of each position.
        operators, skips: positions of the two domains; together every position once.
        seed: fixes what is drawn.
        period: updates of a phase.
        config: of both controllers.

    Raises:
        ConfigError: the domains do not split the positions, or the period is below 1.
    """

    def __init__(
        self,
        choices: Choices,
        operators: Collection[int],
        skips: Collection[int],
        *,
        seed: int = 0,
        period: int = 10,
        config: ControllerConfig | None = None,
    ) -> None:
        if sorted([*operators, *skips]) != list(range(len(choices))) or not (operators and skips):
            raise ConfigError(
                f"the two domains hold {len(operators)} and {len(skips)} of {len(choices)} "
                "positions. "
                "Put each position into one of them, and at least one into each."
            )
        if period < 1:
            raise ConfigError(f"period is {period}. Give 1 or more.")
        self.period = period
        self.positions = {"operators": tuple(operators), "skips": tuple(skips)}
        self.strategies = {
            domain: ControllerStrategy(
                [choices[i] for i in positions],
                seed=derive_seed(seed, "alternating", domain),
                config=config,
            )
            for domain, positions in self.positions.items()
        }
        self.domain = "operators"
        """What moves now."""
        self.fixed: Vector = (0,) * len(choices)
        """Where the domain that does not move is read from."""
        self.best: tuple[Vector, float] | None = None
        """The architecture of the highest score so far, the latest of equals."""
        self.best_rewards: list[float] = []
        """The best reward after each tell."""
        self.phases: list[Phase] = []
        """Those that ended."""
        self._metrics: dict[str, float] = {}

    def ask(self, count: int) -> list[Vector]:
        """Return ``count`` architectures that differ in the moving domain alone."""
        return [self._whole(part) for part in self.strategies[self.domain].ask(count)]

    def tell(self, vectors: Sequence[Vector], scores: Sequence[float]) -> None:
        """Take one step of policy gradient in the moving domain; after ``period`` change roles."""
        strategy = self.strategies[self.domain]
        if len(self.best_rewards) % self.period == 0:
            # Scores around another fixed part say nothing of what is usual around this one.
            strategy.baseline = None
            strategy.scores = Scores()
        scored = [(tuple(v), float(s)) for v, s in zip(vectors, scores, strict=True)]
        parts = [(self._part(v), s) for v, s in scored if self._whole(self._part(v)) == v]
        if parts:
            strategy.tell([part for part, _ in parts], [score for _, score in parts])
        for vector, score in scored:
            if self.best is None or score >= self.best[1]:
                self.best = (vector, score)
        assert self.best is not None
        self.best_rewards.append(self.best[1])
        self._metrics = {
            **strategy.metrics(),
            "best": self.best[1],
            "phase": float(len(self.phases)),
        }
        if len(self.best_rewards) % self.period == 0:
            self.fixed = self.best[0]
            self.phases.append(Phase(domain=self.domain, reward=self.best[1], vector=self.best[0]))
            self.domain = "skips" if self.domain == "operators" else "operators"

    def recommend(self, count: int) -> list[Vector]:
        """Return the best architecture, then what the moving domain's controller recommends."""
        vectors = [self._whole(part) for part in self.strategies[self.domain].recommend(count)]
        if self.best is not None:
            vectors.insert(0, self.best[0])
        return list(dict.fromkeys(vectors))[:count]

    def metrics(self) -> dict[str, float]:
        """Return, of the last tell, its controller's metrics, the best reward and the phase, from
        0."""
        return dict(self._metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return both controllers, the best, and where in the phases it is."""
        return {
            "strategies": {name: s.state_dict() for name, s in self.strategies.items()},
            "domain": self.domain,
            "fixed": list(self.fixed),
            "best": [list(self.best[0]), self.best[1]] if self.best is not None else None,
            "best_rewards": list(self.best_rewards),
            "phases": [{**asdict(p), "vector": list(p.vector)} for p in self.phases],
            "metrics": dict(self._metrics),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        for name, strategy in self.strategies.items():
            strategy.load_state_dict(state["strategies"][name])
        self.domain, self.fixed = state["domain"], tuple(state["fixed"])
        best = state["best"]
        self.best = None if best is None else (tuple(best[0]), best[1])
        self.best_rewards = list(state["best_rewards"])
        self.phases = [Phase(**{**p, "vector": tuple(p["vector"])}) for p in state["phases"]]
        self._metrics = dict(state["metrics"])

    def _part(self, vector: Vector) -> Vector:
        """Return what ``vector`` has in the moving domain."""
        return tuple(vector[i] for i in self.positions[self.domain])

    def _whole(self, part: Vector) -> Vector:
        """Return the fixed architecture with ``part`` in the moving domain."""
        whole = list(self.fixed)
        for i, index in zip(self.positions[self.domain], part, strict=True):
            whole[i] = index
        return tuple(whole)
