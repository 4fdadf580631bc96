"""Chooses what a search may change where the user named nothing."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from refiner.space.search_space import SearchSpace, search_space


def choose_space(
    model: nn.Module,
    example: Any,
    *,
    slots: Any,
    trained: bool,
    candidates: Sequence[str] | None,
    allow_larger: bool,
) -> tuple[SearchSpace, str]:
    """Stand-in until the merge."""
    if slots == "auto":
        slots = "group" if trained else "conv"
    space = search_space(
        model, example, granularity=slots, candidates=candidates, allow_larger=allow_larger
    )
    return space, ""
