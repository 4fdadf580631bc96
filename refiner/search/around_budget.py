"""Search around the budget, by effects that were estimated beforehand.

A few single swaps are scored first, as a check of the estimates. All further scores are of
architectures within the budget. In each round the first is the best by what is believed so far;
the others are the best of surfaces drawn from that belief (Thompson sampling), so they differ
where it is unsure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refiner.core.randomness import derive_seed
from refiner.cost.feasible import FeasibleSet
from refiner.search.after_refit import AfterRefit
from refiner.search.belief import Belief
from refiner.search.effects import Effects
from refiner.search.effects_check import EffectsCheck
from refiner.search.integer_program import Program
from refiner.search.scores import Scores
from refiner.search.surface import Descent
from refiner.space.architecture import Vector

_TINY = 1e-9


class AroundBudget:
    """Proposes architectures within a budget.

    Args:
        effects: estimates for all swaps.
        feasible: the budget; None where everything is feasible.
        seed: fixes what is proposed.
    """

    def __init__(self, effects: Effects, feasible: FeasibleSet | None, seed: int) -> None:
        self.effects = effects
        self.generator = np.random.default_rng(derive_seed(seed, "around the budget"))
        self.keep_to(feasible)
        self.zero: Vector = (0,) * len(effects.sizes)
        self.check = EffectsCheck(effects)

    def keep_to(self, feasible: FeasibleSet | None) -> None:
        """Propose architectures of this set from now on."""
        self.feasible = feasible
        self._descent = Descent(self.effects, feasible)
        self._solutions = self._program(feasible)

    def ask(self, count: int, scores: Scores) -> list[Vector]:
        """Return ``count`` architectures to score next."""
        asked = [v for v in (self.zero, *self.check.swaps) if v not in scores][:count]
        if len(asked) == count:
            return asked
        belief, starts = self._belief(scores), self._starts(scores)
        return asked + self._lowest(belief, starts, count - len(asked), [*scores, *asked])

    def recommend(self, count: int, scores: Scores) -> list[Vector]:
        """Return the best architectures, by their scores or by what is believed of them."""
        expected = self._expected(scores, count)
        return sorted(expected, key=lambda vector: (-expected[vector], vector))[:count]

    def recommend_refitted(
        self, count: int, scores: Scores, refitted: Mapping[Vector, float]
    ) -> list[Vector]:
        """Return the best architectures by what is believed of the refit; they differ where that is
        unsure.

        Args:
            count: how many.
            scores: without the refit.
            refitted: scores after it; none of these architectures is returned.
        """
        losses = {vector: max(-score, _TINY) for vector, score in refitted.items()}
        belief = AfterRefit(self._belief(scores).mean(), losses)
        known = [v for v in losses if self._holds(v)]
        starts = sorted(known, key=lambda vector: (losses[vector], vector))[:2]
        found = self._lowest(belief, [*self._starts(scores), *starts], count, list(refitted))
        return [v for v in dict.fromkeys(found) if v not in refitted]

    def _lowest(
        self,
        belief: Belief | AfterRefit,
        starts: Sequence[Vector],
        count: int,
        known: Sequence[Vector],
    ) -> list[Vector]:
        """Return the lowest architectures of the mean of a belief and of draws from it, new ones
        where there are any."""
        found = list(known)
        surfaces = [belief.mean(), *(belief.sample(self.generator) for _ in range(count - 1))]
        for surface in surfaces:
            lowest = self._descent.lowest(surface, starts, len(found) + 1)
            starts = lowest[:1]
            new = [vector for vector in lowest if vector not in found]
            found.append((new or lowest)[0])
        return found[len(known) :]

    def best(self, feasible: FeasibleSet | None, scores: Scores) -> list[Vector]:
        """Return the best architecture by what is believed, within other limits."""
        start = self._program(feasible)
        surface = self._belief(scores).mean()
        return Descent(self.effects, feasible).lowest(surface, start, 1)

    def expected(self, scores: Scores) -> float:
        """Return the score that the best recommendation has, or is expected to have."""
        return max(self._expected(scores, 1).values())

    def _expected(self, scores: Scores, count: int) -> dict[Vector, float]:
        """Return scores, or expected ones, of feasible architectures that may be the best."""
        surface = self._belief(scores).mean()
        lowest = self._descent.lowest(surface, self._starts(scores), count)
        expected = {vector: -float(np.exp(surface.value(vector))) for vector in lowest}
        return expected | {v: scores.mean(v) for v in self._members(scores)}

    def _members(self, scores: Scores) -> list[Vector]:
        """Return the feasible architectures that have a score."""
        return list(filter(self._holds, scores))

    def _holds(self, vector: Vector) -> bool:
        return self.feasible is None or self.feasible.holds(vector)

    def _belief(self, scores: Scores) -> Belief:
        """Return what follows from the scores of architectures with several swaps."""
        several = [v for v in scores if sum(map(bool, v)) > 1]
        return Belief(self.effects, several, [max(-scores.mean(v), _TINY) for v in several])

    def _starts(self, scores: Scores) -> list[Vector]:
        """Return where descents begin: at solutions of the program, and at the best by scores."""
        best = sorted(self._members(scores), key=lambda v: (-scores.mean(v), v))[:2]
        return list(dict.fromkeys([*self._solutions, *best]))

    def _program(self, feasible: FeasibleSet | None) -> list[Vector]:
        """Return the solution of the integer program without pairs, and that with half of the pairs
        of this solution added to each swap."""
        gram_JJ, sizes = self.effects.gram_JJ, self.effects.sizes
        share_J, found = gram_JJ.diagonal() / 2, list[Vector]()
        for _ in range(2):
            starts = self.effects.starts
            values = {
                (s, k): -float(share_J[starts[s] + k])
                for s, size in enumerate(sizes)
                for k in range(1, size)
            }
            best = Program(sizes, values, {}, feasible).best(1)
            if not best:
                break
            found += best
            columns = self.effects.columns(best[0])
            apart_JJ = np.repeat(np.arange(len(sizes)), sizes)[:, None] != np.arange(len(sizes))
            share_J = (gram_JJ.diagonal() + (gram_JJ[:, columns] * apart_JJ).sum(axis=1)) / 2
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the effects and the state of the generator."""
        return {
            "effects": self.effects.state_dict(),
            "generator": self.generator.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of the generator."""
        self.generator.bit_generator.state = state["generator"]
