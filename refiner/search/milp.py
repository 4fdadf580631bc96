"""An integer program over what each swap costs the score, solved by HiGHS (scipy).

First each single swap is scored: the zero vector with one candidate in one slot. Their changes of
the score are taken as additive, and the best feasible architecture under that is the solution of
an integer program. Where additivity fails, pairs that the solution swaps together are scored, and
the part of their change that the two alone do not explain enters the program; it is solved again,
round by round.

What is asked for may go over a budget, since it measures; what is recommended never does.

Source: Molchanov et al., LANA, 2021 (arXiv 2107.10624), section 3.2, which has no pairs.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_array

from refiner.core.errors import ConfigError
from refiner.core.randomness import derive_seed
from refiner.cost.feasible import FeasibleSet
from refiner.search.scores import Scores
from refiner.search.strategy import Choices
from refiner.space.architecture import Vector

_Swap = tuple[int, int]
"""(slot, index) of a candidate other than the original."""


class MilpStrategy:
    """Scores single swaps and pairs of them, and recommends the solutions of an integer program.

    Args:
        choices: names of the candidates of each slot.
        seed: fixes the order in which swaps are scored.
        feasible: what may be recommended; everything by default.
    """

    same_images = True

    def __init__(
        self, choices: Choices, *, seed: int = 0, feasible: FeasibleSet | None = None
    ) -> None:
        self.sizes = [len(names) for names in choices]
        self.feasible = feasible
        self.zero: Vector = (0,) * len(self.sizes)
        swaps = [(s, k) for s, size in enumerate(self.sizes) for k in range(1, size)]
        generator = torch.Generator().manual_seed(derive_seed(seed, "milp"))
        order = torch.randperm(len(swaps), generator=generator).tolist()
        self.swaps: list[_Swap] = [swaps[i] for i in order]
        self.scores = Scores()
        self._solved: tuple[int, list[Vector]] | None = None
        self._round: tuple[int, list[Vector]] = 0, []
        """How often the least scored of a round had been scored when it began, and what it wants
        scored."""
        self._last: list[Vector] = []
        """Solutions of the program that the round began with."""

    def ask(self, count: int) -> list[Vector]:
        """Return what is to be scored next: what was scored least, in the order of the
        rounds."""
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

    def recommend(self, count: int) -> list[Vector]:
        """Return the best solutions, those with scores of their own by these."""
        solutions = self._solutions(count)
        return sorted(solutions, key=lambda v: (-self._expected(v), solutions.index(v)))

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
                found += self._program(self.feasible.pruned(limit)).best(1)
        return list(dict.fromkeys(found))

    def metrics(self) -> dict[str, float]:
        """Return how many of the swaps have a score, and what the best of the last solutions is
        expected to have."""
        if not self.scores:
            return {}
        known = {"swaps": float(sum(single in self.scores for single in self._singles()))}
        return known | ({"expected": max(map(self._expected, self._last))} if self._last else {})

    def state_dict(self) -> dict[str, Any]:
        """Return the scores, the order of the swaps and the round."""
        return {
            "swaps": [list(swap) for swap in self.swaps],
            "round": [self._round[0], [list(vector) for vector in self._round[1]]],
            "last": [list(vector) for vector in self._last],
            "scores": self.scores.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        self.swaps = [(slot, index) for slot, index in state["swaps"]]
        self.scores.load_state_dict(state["scores"])
        self._solved = None
        known, wanted = state["round"]
        self._round = known, [tuple(vector) for vector in wanted]
        self._last = [tuple(vector) for vector in state["last"]]

    def _with(self, *swaps: _Swap) -> Vector:
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

    def _effect(self, swap: _Swap) -> float:
        """Return how a swap alone changes the score; unknown ones as the mean of the known."""
        zero, single = self._mean(self.zero), self._mean(self._with(swap))
        if zero is not None and single is not None:
            return single - zero
        known = [m for m in map(self._mean, self._singles()) if m is not None]
        return sum(known) / len(known) - zero if known and zero is not None else 0.0

    def _pairs(self) -> dict[tuple[_Swap, _Swap], float]:
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

    def _program(self, feasible: FeasibleSet | None) -> "_Program":
        effects = {swap: self._effect(swap) for swap in self.swaps}
        return _Program(self.sizes, effects, self._pairs(), feasible)


class _Program:
    """A binary variable for each candidate of each slot, and for each pair one that follows from
    those of its swaps."""

    def __init__(
        self,
        sizes: Sequence[int],
        effects: dict[_Swap, float],
        pairs: dict[tuple[_Swap, _Swap], float],
        feasible: FeasibleSet | None,
    ) -> None:
        self.sizes, self.feasible = sizes, feasible
        starts = np.concatenate([[0], np.cumsum(sizes)])
        self.column = {
            (s, k): int(starts[s]) + k for s, size in enumerate(sizes) for k in range(size)
        }
        self.width = len(self.column) + len(pairs)
        self.value = np.zeros(self.width)
        for swap, effect in effects.items():
            self.value[self.column[swap]] = effect
        self.rows: list[tuple[dict[int, float], float, float]] = [
            ({self.column[s, k]: 1.0 for k in range(size)}, 1.0, 1.0)
            for s, size in enumerate(sizes)
        ]
        for i, ((first, second), value) in enumerate(pairs.items()):
            both, a, b = len(self.column) + i, self.column[first], self.column[second]
            self.value[both] = value
            # The program itself draws a pair that gains up and one that costs down.
            if value > 0:
                self.rows += [
                    ({both: 1.0, a: -1.0}, -np.inf, 0.0),
                    ({both: 1.0, b: -1.0}, -np.inf, 0.0),
                ]
            else:
                self.rows.append(({both: -1.0, a: 1.0, b: 1.0}, -np.inf, 1.0))

    def best(self, count: int) -> list[Vector]:
        """Return the best ``count`` solutions; each is kept out of the program of the next."""
        budgets = self._budgets()
        found: list[Vector] = []
        cuts: list[tuple[dict[int, float], float, float]] = []
        while len(found) < count:
            solved = [self._solve([*self.rows, *rows, *cuts]) for rows in budgets]
            usable = [s for s in solved if s is not None]
            if not usable:
                break
            vector = max(usable, key=lambda s: s[0])[1]
            if self.feasible is None or self.feasible.holds(vector):  # the solver rounds
                found.append(vector)
            same = {self.column[s, k]: 1.0 for s, k in enumerate(vector)}
            cuts.append((same, -np.inf, len(vector) - 1.0))
        return found

    def _budgets(self) -> list[list[tuple[dict[int, float], float, float]]]:
        """Return the rows of the limits, once for each resource that may be the one used up."""
        if self.feasible is None:
            return [[]]
        rows = []
        for costs, base, limit in self.feasible.resources():
            # In units of the limit, for the solver's tolerance.
            row = {
                self.column[s, k]: cost / limit
                for s, each in enumerate(costs)
                for k, cost in enumerate(each)
            }
            rows.append((row, (limit - base) / limit))
        alternatives = []
        for used, floor in enumerate(self.feasible.floors.tolist()):
            _, base, limit = self.feasible.resources()[used]
            if floor > limit:  # it does not bind
                continue
            alternatives.append(
                [
                    (row, (floor - base) / limit if r == used else -np.inf, most)
                    for r, (row, most) in enumerate(rows)
                ]
            )
        return alternatives

    def _solve(
        self, rows: Sequence[tuple[dict[int, float], float, float]]
    ) -> tuple[float, Vector] | None:
        matrix = lil_array((len(rows), self.width))
        for i, (row, _, _) in enumerate(rows):
            for column, factor in row.items():
                matrix[i, column] = factor
        scale = np.abs(self.value).max(initial=0.0) or 1.0  # a solver's tolerance is absolute
        solved = milp(
            -self.value / scale,
            constraints=LinearConstraint(
                matrix.tocsr(), [low for _, low, _ in rows], [high for _, _, high in rows]
            ),
            # In a best solution a pair's variable is whole, since those of its swaps are.
            integrality=np.arange(self.width) < len(self.column),
            bounds=Bounds(0, 1),
        )
        if solved.x is None:
            return None
        vector = tuple(
            max(range(size), key=lambda k, s=s: float(solved.x[self.column[s, k]]))  # type: ignore[misc]
            for s, size in enumerate(self.sizes)
        )
        return -float(solved.fun) * scale, vector
