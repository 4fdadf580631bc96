"""Random search: the baseline that every search needs, at the same budget."""

from collections.abc import Sequence
from typing import Any

import torch

from refiner.core.randomness import derive_seed
from refiner.cost.feasible import FeasibleSet
from refiner.search.scores import Scores
from refiner.search.strategy import Choices
from refiner.space.architecture import Vector


class RandomStrategy:
    """Draws each architecture with equal probability, and remembers the best scores.

    Args:
        choices: names of the candidates of each slot.
        seed: fixes what is drawn.
        feasible: what may be drawn; everything by default.
    """

    same_images = True

    def __init__(
        self, choices: Choices, *, seed: int = 0, feasible: FeasibleSet | None = None
    ) -> None:
        self.sizes = [len(names) for names in choices]
        self.feasible = feasible
        self.generator = torch.Generator().manual_seed(derive_seed(seed, "random"))
        self.scores = Scores()

    def ask(self, count: int) -> list[Vector]:
        """Return ``count`` uniform architectures."""
        if self.feasible is not None:
            return self._feasible(self.feasible, count)
        columns = [
            torch.randint(size, (count,), generator=self.generator).tolist() for size in self.sizes
        ]
        return list(zip(*columns, strict=True))

    def _feasible(self, feasible: FeasibleSet, count: int) -> list[Vector]:
        spent_MR, columns = feasible.nothing_spent(count), []
        for slot in range(len(self.sizes)):
            # As likely as there are architectures behind it, so all are equally likely in the end.
            ways_MV = torch.from_numpy(feasible.ways(slot, spent_MR))
            index_M = torch.multinomial(
                ways_MV / ways_MV.sum(1, keepdim=True), 1, generator=self.generator
            )[:, 0]
            spent_MR = spent_MR + feasible.spent(slot, index_M.numpy())
            columns.append(index_M.tolist())
        return list(zip(*columns, strict=True))

    def tell(self, vectors: Sequence[Vector], scores: Sequence[float]) -> None:
        """Remember the scores."""
        self.scores.add(vectors, scores)

    def recommend(self, count: int) -> list[Vector]:
        """Return the feasible architectures of the highest mean score, or new ones if there are
        none."""
        best = self.scores.best(len(self.scores))
        scored = [v for v in best if self.feasible is None or self.feasible.holds(v)]
        return scored[:count] or list(dict.fromkeys(self.ask(count)))

    def keep_to(self, feasible: FeasibleSet) -> None:
        """Draw architectures of this set from now on."""
        self.feasible = feasible

    def metrics(self) -> dict[str, float]:
        """Return the best mean score so far."""
        best = self.scores.best(1)
        return {"best": self.scores.mean(best[0])} if best else {}

    def state_dict(self) -> dict[str, Any]:
        """Return the generator's state and the scores."""
        return {"generator": self.generator.get_state(), "scores": self.scores.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        self.generator.set_state(state["generator"])
        self.scores.load_state_dict(state["scores"])
