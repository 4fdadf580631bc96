"""The macro search space of ENAS, operators and skips together.

Section 3.2 of the paper argues against it; it is here so that the argument can be measured. The
space is the paper's: node ``j`` may take a skip from each node ``t <= j - 2``. ENAS lets the stem
be a source too, so its space has one bit more a node.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from refiner.core.errors import ArchitectureError, ConfigError
from refiner.space.architecture import Vector
from refiner.space.candidates import Candidate, get_candidate

MACRO_OPERATIONS = (
    "conv3x3",
    "conv5x5",
    "depthwise3x3",
    "depthwise5x5",
    "maxpool3x3",
    "avgpool3x3",
)
"""ENAS's six (section 3.4)."""

SKIP_CHOICES = ("no skip", "skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class MacroSpace:
    """Vectors in the order of the paper's tau: ``O_j``, then ``S_{j,t}`` for ``t = 1..j-2``, by
    node.

    With 4 nodes: ``O_1, O_2, O_3, S_{3,1}, O_4, S_{4,1}, S_{4,2}``.

    Raises:
        ConfigError: no node, no operation, one named twice, or one that is not a candidate.
    """

    nodes: int = 12
    operations: tuple[str, ...] = MACRO_OPERATIONS
    """Names of candidates, offered to every node."""

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ConfigError(f"nodes is {self.nodes}. Give 1 or more.")
        if not self.operations or len(set(self.operations)) < len(self.operations):
            raise ConfigError(
                f"the operations are {', '.join(self.operations) or 'none'}. Name one or more, "
                "each once."
            )
        for name in self.operations:
            if not isinstance(get_candidate(name), Candidate):
                raise ConfigError(
                    f"{name} is for groups of convs. Name an operation, such as conv3x3."
                )

    @property
    def layout(self) -> tuple[tuple[int, int | None], ...]:
        """Of each position, (j, t) for a skip and (j, None) for an operator; nodes count from 1."""
        return tuple((j, t) for j in range(1, self.nodes + 1) for t in (None, *range(1, j - 1)))

    @property
    def choices(self) -> tuple[tuple[str, ...], ...]:
        """Names of the alternatives of each position."""
        return tuple(self.operations if t is None else SKIP_CHOICES for _, t in self.layout)

    @property
    def operators(self) -> tuple[int, ...]:
        """Positions of ``O_1 .. O_n``."""
        return tuple(i for i, (_, t) in enumerate(self.layout) if t is None)

    @property
    def skips(self) -> dict[int, tuple[int, int]]:
        """Positions of the skips, in order, each with its (j, t)."""
        return {i: (j, t) for i, (j, t) in enumerate(self.layout) if t is not None}

    @property
    def node_of(self) -> tuple[int, ...]:
        """Of each position, its node ``j``, from 1."""
        return tuple(j for j, _ in self.layout)

    @property
    def log10_operators(self) -> float:
        """Decimal logarithm of the number of choices of operators, ``K^n``."""
        return self.nodes * math.log10(len(self.operations))

    @property
    def log10_skips(self) -> float:
        """Decimal logarithm of the number of choices of skips, ``2^((n-1)(n-2)/2)``."""
        return len(self.skips) * math.log10(2)

    def sources(self, vector: Vector) -> tuple[tuple[int, ...], ...]:
        """Return, of each node, the earlier nodes that a skip of ``vector`` comes from."""
        chosen = [edge for i, edge in self.skips.items() if vector[i]]
        return tuple(tuple(t for j, t in chosen if j == node) for node in range(1, self.nodes + 1))

    def check(self, vector: Sequence[int]) -> None:
        """Raise an ArchitectureError unless ``vector`` has one valid index a position."""
        choices = self.choices
        if len(vector) != len(choices):
            raise ArchitectureError(
                f"the vector has {len(vector)} numbers, but the macro space has {len(choices)} "
                "positions. "
                "MacroSpace.choices lists them."
            )
        for (j, t), names, index in zip(self.layout, choices, vector, strict=True):
            if not isinstance(index, int) or not 0 <= index < len(names):
                where = f"the operator of node {j}" if t is None else f"the skip {t} -> {j}"
                listed = ", ".join(f"{i} {name}" for i, name in enumerate(names))
                raise ArchitectureError(f"{where} has no index {index!r}. Choose one of: {listed}.")
