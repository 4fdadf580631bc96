"""Architecture overfitting (section 3.1, table 1): better on the task of the search, worse
elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass

from refiner.core.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureOverfitting:
    """A searched and a hand-made architecture, each trained and scored the same way on each
    task."""

    search_task: str
    """Name of the task that the architecture was searched on."""
    tasks: tuple[str, ...]
    """Names of all tasks, the search's first."""
    searched: tuple[float, ...]
    """Scores of the searched architecture on them, higher is better."""
    handmade: tuple[float, ...]
    """Scores of the hand-made architecture on them, in the same units."""

    @property
    def search_advantage(self) -> float:
        """Score of the searched less that of the hand-made, on the task of the search."""
        return self.searched[0] - self.handmade[0]

    @property
    def other_advantage(self) -> float:
        """The same on the other tasks, their mean."""
        pairs = zip(self.searched[1:], self.handmade[1:], strict=True)
        return sum(ours - theirs for ours, theirs in pairs) / (len(self.tasks) - 1)

    @property
    def gap(self) -> float:
        """How much of the advantage does not carry over; above 0 the architecture overfits."""
        return self.search_advantage - self.other_advantage

    def to_markdown(self, *, searched: str = "searched", handmade: str = "hand-made") -> str:
        """Return a table like the paper's table 1; the names are those of its rows."""
        differences = [a - b for a, b in zip(self.searched, self.handmade, strict=True)]
        rows = [
            ("architecture", *self.tasks),
            ("---", *("---:" for _ in self.tasks)),
            (searched, *(f"{score:.4g}" for score in self.searched)),
            (handmade, *(f"{score:.4g}" for score in self.handmade)),
            ("difference", *(f"{d:+.4g}" for d in differences)),
        ]
        others = "the other task" if len(self.tasks) == 2 else "the other tasks, on average"
        lines = [f"| {' | '.join(row)} |" for row in rows]
        lines += [
            "",
            f"Advantage on {self.search_task}, searched on: {self.search_advantage:+.4g}; "
            f"on {others}: "
            f"{self.other_advantage:+.4g}; gap: {self.gap:+.4g}.",
        ]
        return "\n".join(lines) + "\n"


def architecture_overfitting(
    searched: Mapping[str, float], handmade: Mapping[str, float], *, search_task: str
) -> ArchitectureOverfitting:
    """Return the comparison of two architectures by their scores on each task, by its name.

    Raises:
        DataError: the two have scores on different tasks, or there is not the search's and another.
    """
    if set(searched) != set(handmade):
        lone = sorted(set(searched) ^ set(handmade))
        raise DataError(f"only one of the two has a score on {', '.join(lone)}. Score both on it.")
    if search_task not in searched or len(searched) < 2:
        raise DataError(
            f"there are scores on {', '.join(searched) or 'no task'}. Give those on {search_task}, "
            "the task of the search, and on another."
        )
    tasks = (search_task, *(task for task in searched if task != search_task))
    return ArchitectureOverfitting(
        search_task=search_task,
        tasks=tasks,
        searched=tuple(searched[task] for task in tasks),
        handmade=tuple(handmade[task] for task in tasks),
    )
