"""An integer program over what each swap costs the score, solved by HiGHS (scipy).

First each single swap is scored: the zero vector with one candidate in one slot. Their changes of
the score are taken as additive, and the best feasible architecture under that is the solution of
an integer program. Where additivity fails, pairs that the solution swaps together are scored, and
the part of their change that the two alone do not explain enters the program; it is solved again,
round by round.

Where the search has estimated the effects of all swaps (:mod:`refiner.search.saliency`), these take
the place of the single scores, and all but a few scores are of architectures within the budget
(:mod:`refiner.search.around_budget`). If the few contradict the estimates, single swaps are scored
as above.

What is asked for may go over a budget, since it measures; what is recommended never does.

Source: Molchanov et al., LANA, 2021 (arXiv 2107.10624), section 3.2, which has no pairs.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from refiner.core.errors import ConfigError
from refiner.core.randomness import derive_seed
from refiner.cost.feasible import FeasibleSet
from refiner.search.around_budget import AroundBudget
from refiner.search.effects import Effects
from refiner.search.effects_check import LEAST_TAU
from refiner.search.integer_program import Program, Swap
from refiner.search.scores import Scores
from refiner.search.strategy import Choices
from refiner.space.architecture import Vector


class MilpStrategy:
    """Scores single swaps and pairs of them, and recommends the solutions of an integer program.

    Args:
        choices: names of the candidates of each slot.
        seed: fixes the order in which swaps are scored.
        feasible: what may be recommended; everything by default.
    """

    same_images = True
    instead = "single swaps are scored, not estimated"
    """What it does without estimates, for people."""

    def __init__(
        self, choices: Choices, *, seed: int = 0, feasible: FeasibleSet | None = None
    ) -> None:
        self.sizes = [len(names) for names in choices]
        self.feasible = feasible
        self.zero: Vector = (0,) * len(self.sizes)
        swaps = [(s, k) for s, size in enumerate(self.sizes) for k in range(1, size)]
        generator = torch.Generator().manual_seed(derive_seed(seed, "milp"))
        order = torch.randperm(len(swaps), generator=generator).tolist()
        self.swaps: list[Swap] = [swaps[i] for i in order]
        self.scores = Scores()
        self._solved: tuple[int, list[Vector]] | None = None
        self._round: tuple[int, list[Vector]] = 0, []
        """How often the least scored of a round had been scored when it began, and what it wants
        scored."""
        self._last: list[Vector] = []
        """Solutions of the program that the round began with."""
        self.seed = seed
        self.around: AroundBudget | None = None
        """What goes by estimated effects; None without them."""
        self.refused: float | None = None
        """Kendall's tau of estimates that were not used, with scores."""

    def inform(self, effects: Effects) -> None:
        """Go by estimated effects from now on."""
        self.around = AroundBudget(effects, self.feasible, self.seed)

    def ask(self, count: int) -> list[Vector]:
        """Return what is to be scored next: what was scored least, in the order of the
        rounds."""
        if self.around is not None:
            return self.around.ask(count, self.scores)
        known, wanted = self._round
        # A program is solved once a round, since that may take longer than the scores.
        if not wanted or min(map(self.scores.count, wanted)) > known:
            wanted = list(dict.fromkeys(self._wanted()))
            self._round = min(map(self.scores.count, wanted)), wanted
        ordered = sorted(wanted, key=self.scores.count)  # stable: rounds keep their order
        return list(itertools.islice(itertools.cycle(ordered), count))

    def tell(self, vectors: Sequence[Vector], scores: Sequence[float]) -> None:
        """Remember the scores."""
        self.scores.add(vectors, scores)
        self._solved = None
        rank = None if self.around is None else self.around.check.rank(self.scores)
        if rank is not None and rank < LEAST_TAU:
            self.around, self.refused = None, rank

    def recommend(self, count: int) -> list[Vector]:
        """Return the best solutions, those with scores of their own by these."""
        if self.around is not None:
            return self.around.recommend(count, self.scores)
        solutions = self._solutions(count)
        return sorted(solutions, key=lambda v: (-self._expected(v), solutions.index(v)))

    def recommend_refitted(self, count: int, scores: Mapping[Vector, float]) -> list[Vector]:
        """Return architectures that are likely to be the best after a refit."""
        if self.around is not None:
            return self.around.recommend_refitted(count, self.scores, scores)
        return [v for v in self.recommend(count + len(scores)) if v not in scores][:count]

    def keep_to(self, feasible: FeasibleSet) -> None:
        """Recommend architectures of this set from now on."""
        self.feasible, self._solved = feasible, None
        if self.around is not None:
            self.around.keep_to(feasible)

    def ladder(self, count: int) -> list[Vector]:
        """Return the best architecture within each of ``count`` limits, from the least to the
        budget.

        The limits are on the first resource, evenly from what is just reached to what is allowed.
        """
        if self.feasible is None:
            return []
        least = int(self.feasible.least[0])
        most = min(int(self.feasible.limits[0]), int(self.feasible.most[0]))
        found = []
        for i in range(1, count + 1):
            limit = least + (most - least) * i // count
            with contextlib.suppress(ConfigError):  # another budget may leave nothing so cheap
                pruned = self.feasible.pruned(limit)
                if self.around is not None:
                    found += self.around.best(pruned, self.scores)
                else:
                    found += self._program(pruned).best(1)
        return list(dict.fromkeys(found))

    def metrics(self) -> dict[str, float]:
        """Return how many of the swaps have a score, and what the best of the last solutions is
        expected to have."""
        if not self.scores:
            return {}
        if self.around is not None:
            return {"expected": self.around.expected(self.scores)}
        known = {"swaps": float(sum(single in self.scores for single in self._singles()))}
        return known | ({"expected": max(map(self._expected, self._last))} if self._last else {})

    def state_dict(self) -> dict[str, Any]:
        """Return the scores, the order of the swaps, the round and the estimates."""
        return {
            "swaps": [list(swap) for swap in self.swaps],
            "round": [self._round[0], [list(vector) for vector in self._round[1]]],
            "last": [list(vector) for vector in self._last],
            "scores": self.scores.state_dict(),
            "around": None if self.around is None else self.around.state_dict(),
            "refused": self.refused,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        self.swaps = [(slot, index) for slot, index in state["swaps"]]
        self.scores.load_state_dict(state["scores"])
        self._solved = None
        known, wanted = state["round"]
        self._round = known, [tuple(vector) for vector in wanted]
        self._last = [tuple(vector) for vector in state["last"]]
        self.around, self.refused = None, state["refused"]
        if state["around"] is not None:
            effects = Effects.of_state(state["around"]["effects"])
            self.around = AroundBudget(effects, self.feasible, self.seed)
            self.around.load_state_dict(state["around"])

    def _with(self, *swaps: Swap) -> Vector:
        vector = list(self.zero)
        for slot, index in swaps:
            vector[slot] = index
        return tuple(vector)

    def _singles(self) -> list[Vector]:
        return [self._with(swap) for swap in self.swaps]

    def _wanted(self) -> Iterator[Vector]:
        """Yield the zero vector and the single swaps; once all have scores, what checks the
        solutions."""
        yield self.zero
        yield from self._singles()
        if all(vector in self.scores for vector in (self.zero, *self._singles())):
            self._last = solutions = self._solutions(4)
            yield from solutions
            swapped = [(s, k) for s, k in enumerate(solutions[0]) if k]
            effects = {swap: abs(self._effect(swap)) for swap in swapped}
            pairs = itertools.combinations(sorted(swapped, key=lambda s: -effects[s]), 2)
            yield from (self._with(*pair) for pair in itertools.islice(pairs, 3 * len(swapped)))

    def _mean(self, vector: Vector) -> float | None:
        return self.scores.mean(vector) if vector in self.scores else None

    def _effect(self, swap: Swap) -> float:
        """Return how a swap alone changes the score; unknown ones as the mean of the known."""
        zero, single = self._mean(self.zero), self._mean(self._with(swap))
        if zero is not None and single is not None:
            return single - zero
        known = [m for m in map(self._mean, self._singles()) if m is not None]
        return sum(known) / len(known) - zero if known and zero is not None else 0.0

    def _pairs(self) -> dict[tuple[Swap, Swap], float]:
        """Return, for each pair with a score, what the two single swaps do not explain."""
        zero = self._mean(self.zero)
        found = {}
        for vector in self.scores:
            swapped = [(s, k) for s, k in enumerate(vector) if k]
            mean = self._mean(vector)
            if len(swapped) == 2 and zero is not None and mean is not None:
                first, second = swapped
                found[first, second] = mean - zero - self._effect(first) - self._effect(second)
        return found

    def _expected(self, vector: Vector) -> float:
        """Return an architecture's own mean score, or else what the program takes it to be."""
        own = self._mean(vector)
        if own is not None:
            return own
        swapped = [(s, k) for s, k in enumerate(vector) if k]
        pairs = sum(value for pair, value in self._pairs().items() if set(pair) <= set(swapped))
        return (self._mean(self.zero) or 0.0) + sum(map(self._effect, swapped)) + pairs

    def _solutions(self, count: int) -> list[Vector]:
        """Return at most ``count`` different feasible architectures, by the value of the
        program."""
        if self._solved is None or self._solved[0] < count:
            self._solved = count, self._program(self.feasible).best(count)
        return self._solved[1][:count]

    def _program(self, feasible: FeasibleSet | None) -> Program:
        effects = {swap: self._effect(swap) for swap in self.swaps}
        return Program(self.sizes, effects, self._pairs(), feasible)
