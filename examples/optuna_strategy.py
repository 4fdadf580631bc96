"""A strategy of one's own: an optuna sampler proposes the architectures.

    pip install optuna
    python examples/optuna_strategy.py

Any class with these methods serves as ``refiner.refine(..., strategy=OptunaStrategy)``. The class
is called with the candidates, the feasible set and the seed once they are known.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna

import refiner
from refiner.cost.feasible import FeasibleSet
from refiner.search.scores import Scores

Vector = tuple[int, ...]


class OptunaStrategy:
    """Asks TPE for architectures, and moves what is not feasible to the next that is."""

    def __init__(
        self, candidates: Sequence[Sequence[str]], feasible: FeasibleSet | None, seed: int
    ) -> None:
        self.feasible, self.seed = feasible, seed
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {
            f"{slot:04d}": optuna.distributions.CategoricalDistribution(tuple(range(len(names))))
            for slot, names in enumerate(candidates)
        }
        self.scores = Scores()
        self.trials: list[tuple[Vector, float]] = []
        self.study = self._study()
        self.asked = 0

    def _study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(direction="maximize")

    def ask(self, count: int) -> list[Vector]:
        """Return ``count`` architectures, each within the budget."""
        vectors = []
        for _ in range(count):
            # A sampler for each trial, by a seed of its own: no generator state has to be saved.
            self.study.sampler = optuna.samplers.TPESampler(seed=self.seed * 100_003 + self.asked)
            trial = self.study.ask(self.distributions)
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)  # its score is added below
            self.asked += 1
            vectors.append(self._feasible([int(trial.params[name]) for name in self.distributions]))
        return vectors

    def _feasible(self, indices: Sequence[int]) -> Vector:
        if self.feasible is None:
            return tuple(indices)
        spent, vector = self.feasible.nothing_spent(1), []
        for slot, index in enumerate(indices):
            ways = self.feasible.ways(slot, spent)[0]  # feasible architectures behind each choice
            turns = [(index + i) % len(ways) for i in range(len(ways))]
            chosen = next(k for k in turns if ways[k] > 0)
            spent = spent + self.feasible.spent(slot, np.array([chosen]))
            vector.append(chosen)
        return tuple(vector)

    def tell(self, vectors: Sequence[Vector], scores: Sequence[float]) -> None:
        """Add finished trials with the scores, higher is better."""
        self.scores.add(vectors, scores)
        for vector, score in zip(vectors, scores, strict=True):
            self.trials.append((tuple(vector), float(score)))
            params = dict(zip(self.distributions, vector, strict=True))
            self.study.add_trial(
                optuna.trial.create_trial(
                    params=params, distributions=self.distributions, value=float(score)
                )
            )

    def recommend(self, count: int) -> list[Vector]:
        """Return the architectures of the highest mean score."""
        return self.scores.best(count) or list(dict.fromkeys(self.ask(count)))

    def metrics(self) -> dict[str, float]:
        """Return the best mean score so far."""
        best = self.scores.best(1)
        return {"best": self.scores.mean(best[0])} if best else {}

    def state_dict(self) -> dict[str, Any]:
        """Return all scores in their order, and how many trials were asked for."""
        trials = [(list(vector), score) for vector, score in self.trials]
        return {"seed": self.seed, "asked": self.asked, "trials": trials}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        self.seed, self.asked = state["seed"], state["asked"]
        self.scores, self.trials, self.study = Scores(), [], self._study()
        for vector, score in state["trials"]:
            self.tell([tuple(vector)], [score])


def main() -> None:
    """Refine a small network on handwritten digits, with optuna as the strategy."""
    from torch import nn

    data = refiner.load_data("digits", limit=500)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )  # fmt: skip
    result = refiner.refine(
        model, data.train, data.val, slots="conv", strategy=OptunaStrategy, budget="macs=70%",
        search=refiner.SearchConfig(trials=20, epochs=2, warmup_epochs=1), baselines=False,
    )  # fmt: skip
    print(result)


if __name__ == "__main__":
    main()
