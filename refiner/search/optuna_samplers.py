"""Black-box samplers of optuna behind the seam: NSGA-II and the tree-structured Parzen estimator.

A sampler proposes an index for each slot on its own. Where that would leave the feasible set, the next
index that does not is taken, slot by slot, so that what is asked for is feasible. NSGA-II weighs the
score against each budget's resource; TPE goes by the score.

Sources: Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, 2002; Bergstra et al.,
Algorithms for Hyper-Parameter Optimization, 2011; Akiba et al., Optuna, 2019.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from refiner.core.randomness import derive_seed
from refiner.cost.feasible import FeasibleSet
from refiner.search.random_search import RandomStrategy
from refiner.search.strategy import Choices
from refiner.space.architecture import Vector

_POPULATION = 20
"""Of NSGA-II; optuna's 50 would be a third of the samples of a refinement."""


class OptunaStrategy:
    """Asks a sampler of optuna and tells it the scores.

    Args:
        sampler: ``nsga2`` or ``tpe``.
        choices: names of the candidates of each slot.
        seed: fixes what is asked.
        feasible: what may be asked; everything by default.
    """

    def __init__(
        self,
        sampler: str,
        choices: Choices,
        *,
        seed: int = 0,
        feasible: FeasibleSet | None = None,
    ) -> None:
        self.sampler, self.seed, self.feasible = sampler, seed, feasible
        self.sizes = [len(names) for names in choices]
        self.told = RandomStrategy(choices, seed=derive_seed(seed, sampler), feasible=feasible)
        """Keeps the scores, and recommends by them."""
        self.trials: list[dict[str, Any]] = []
        """Of each trial that was asked for: its indices, its marks by the sampler, its values if told."""
        self.asked: dict[Vector, list[int]] = {}
        """Numbers of the trials of each architecture that wait for a score."""
        self.study = self._study()

    def ask(self, count: int) -> list[Vector]:
        """Return ``count`` architectures that the sampler proposes."""
        return [self._ask_one() for _ in range(count)]

    def tell(self, vectors: Sequence[Vector], scores: Sequence[float]) -> None:
        """Tell the sampler the scores of architectures that it proposed; others are remembered alone."""
        self.told.tell(vectors, scores)
        for vector, score in zip(vectors, scores, strict=True):
            waiting = self.asked.get(tuple(vector), [])
            if waiting:
                number = waiting.pop(0)
                values = self._values(tuple(vector), float(score))
                self.study.tell(number, values)
                self.trials[number]["values"] = values

    def recommend(self, count: int) -> list[Vector]:
        """Return the architectures of the highest mean score, or fresh ones if none was told."""
        return self.told.recommend(count)

    def metrics(self) -> dict[str, float]:
        """Return the best mean score so far."""
        return self.told.metrics()

    def state_dict(self) -> dict[str, Any]:
        """Return all trials, as plain values, and the scores."""
        return {
            "seed": self.seed,
            "study": self.study._storage.get_study_system_attrs(self.study._study_id),
            "trials": [dict(trial) for trial in self.trials],
            "asked": [(list(vector), list(numbers)) for vector, numbers in self.asked.items()],
            "told": self.told.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        import optuna

        self.seed = state["seed"]
        self.trials = [dict(trial) for trial in state["trials"]]
        self.asked = {tuple(vector): list(numbers) for vector, numbers in state["asked"]}
        self.told.load_state_dict(state["told"])
        self.study = self._study()
        distributions = self._distributions()
        for trial in self.trials:
            states = optuna.trial.TrialState
            kind = states.RUNNING if trial["values"] is None else states.COMPLETE
            self.study.add_trial(
                optuna.trial.create_trial(
                    state=kind,
                    values=trial["values"],
                    params=dict(zip(distributions, trial["indices"], strict=True)),
                    distributions=distributions,
                    system_attrs=trial["marks"],
                )
            )
        # NSGA-II keeps the parents of each generation there, in their order.
        for key, value in state["study"].items():
            self.study._storage.set_study_system_attr(self.study._study_id, key, value)

    def _study(self) -> Any:
        import optuna

        costs = 0 if self.sampler == "tpe" or self.feasible is None else len(self.feasible.limits)
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of each study
        try:
            return optuna.create_study(directions=["maximize"] + ["minimize"] * costs)
        finally:
            optuna.logging.set_verbosity(verbosity)

    def _distributions(self) -> dict[str, Any]:
        import optuna

        return {
            f"{slot:04d}": optuna.distributions.CategoricalDistribution(tuple(range(size)))
            for slot, size in enumerate(self.sizes)
        }

    def _ask_one(self) -> Vector:
        import optuna

        # A sampler of its own for each trial: its generator need not be saved.
        seed = derive_seed(self.seed, self.sampler, len(self.trials)) % 2**32
        self.study.sampler = (
            optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=seed)
            if self.sampler == "nsga2"
            else optuna.samplers.TPESampler(seed=seed)
        )
        distributions = self._distributions()
        trial = self.study.ask(distributions)
        indices = [int(trial.params[name]) for name in distributions]
        marks = dict(self.study.get_trials(deepcopy=False)[trial.number].system_attrs)
        self.trials.append({"indices": indices, "marks": marks, "values": None})
        vector = self._repaired(indices)
        self.asked.setdefault(vector, []).append(trial.number)
        return vector

    def _repaired(self, indices: Sequence[int]) -> Vector:
        if self.feasible is None:
            return tuple(indices)
        spent, vector = self.feasible.nothing_spent(1), []
        for slot, index in enumerate(indices):
            ways = self.feasible.ways(slot, spent)[0]
            allowed = [(index + i) % len(ways) for i in range(len(ways))]
            chosen = next(k for k in allowed if ways[k] > 0)
            spent = spent + self.feasible.spent(slot, np.array([chosen]))
            vector.append(chosen)
        return tuple(vector)

    def _values(self, vector: Vector, score: float) -> list[float]:
        if self.sampler == "tpe" or self.feasible is None:
            return [score]
        return [score, *map(float, self.feasible.cost(vector))]
