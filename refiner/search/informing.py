"""Estimated effects of all swaps for a strategy that can go by them, before its search."""

from dataclasses import dataclass

from refiner.core.errors import ConfigError
from refiner.core.progress import Progress
from refiner.core.types import Batch
from refiner.search.saliency import estimate_effects
from refiner.search.scoring import Scorer
from refiner.search.strategy import Informed, Strategy
from refiner.space.supernet import Supernet

PHASE = "effects"
"""Name of the phase, for progress."""
_NO_ESTIMATES = (
    "estimates take a trained model whose weights stay, and outputs that can be compared"
)
_DRAWS = 2
"""Draws of labels for each sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Informing:
    """What came of it."""

    evaluations: int = 0
    """Evaluations of an architecture that would have taken as long; 0 where nothing was
    estimated."""
    reason: str = ""
    """Why nothing could be estimated, for people; empty for a strategy that asks for nothing."""


def can_inform(strategy: Strategy, scorer: Scorer) -> bool:
    """Return whether a strategy goes by effects, and the search is one where they can be had.

    It is one of agreement with the original, over weights that stay as they are.
    """
    fixed = scorer.fixed and scorer.agreement is not None
    return fixed and isinstance(strategy, Informed) and isinstance(scorer.supernet, Supernet)


def inform(
    strategy: Strategy, scorer: Scorer, batches: list[Batch], progress: Progress
) -> Informing:
    """Estimate the effects of all swaps and give them to a strategy, where both work.

    Args:
        strategy: of a search that begins.
        scorer: of the search.
        batches: those that a first score is taken on.
        progress: listener.
    """
    if not isinstance(strategy, Informed):
        return Informing()
    if not can_inform(strategy, scorer):
        return Informing(reason=_NO_ESTIMATES)
    assert isinstance(scorer.supernet, Supernet)
    if scorer.shift is not None:
        scorer.shift.restore()
    progress.begin(PHASE, len(batches))
    try:
        effects = estimate_effects(
            scorer.supernet,
            batches,
            scorer.norm_batches(),
            scorer.task,
            devices=scorer.devices,
            seed=scorer.seed,
            draws=_DRAWS,
            advance=lambda: progress.advance(1),
        )
    except ConfigError as error:
        progress.end()
        return Informing(reason=str(error))
    progress.end()
    strategy.inform(scorer.devices.from_main(lambda: effects))  # rounding may differ
    return Informing(evaluations=max(effects.sizes) + _DRAWS)
