"""The integer program: the best architectures within budgets where swaps and pairs add up.

It is solved by HiGHS (scipy).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_array

from refiner.cost.feasible import FeasibleSet
from refiner.space.architecture import Vector

Swap = tuple[int, int]
"""(slot, index) of a candidate other than the original."""


class Program:
    """A binary variable for each candidate of each slot, and for each pair one that follows from
    those of its swaps."""

    def __init__(
        self,
        sizes: Sequence[int],
        effects: Mapping[Swap, float],
        pairs: Mapping[tuple[Swap, Swap], float],
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
