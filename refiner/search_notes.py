"""What a report tells of a search that has ended."""

from torch import nn

from refiner.evaluation import evaluate
from refiner.randomness import derive_seed, seeded
from refiner.search import Search
from refiner.strategy_milp import MilpStrategy
from refiner.surgery import copied


def search_notes(search: Search, model: nn.Module, *, distilled: bool) -> list[str]:
    """Return lines for a report.

    Args:
        search: that has ended.
        model: the original; where it was ``distilled`` it was trained, and its score is told.
        distilled: whether the candidates learned from it.
    """
    notes, strategy, config = [], search.strategy, search.config
    if distilled:
        # A loader may draw from the global generator.
        with seeded(derive_seed(search.seed, "given"), search.generators):
            network = search.devices.move(copied(model))
            batches = search.devices.batches(search.val_loader)
            score = evaluate(network, batches, search.task, search.devices)
        notes.append(f"the original as it was given: {search.task.metric} {score:.4f}")
    if search.scorer.likeness is not None:
        notes.append(
            "the search was rewarded by likeness: the mean divergence from the original's outputs, less than 0, "
            "which is the original itself"
        )
    if isinstance(strategy, MilpStrategy):
        scores, swaps = config.epochs * config.tells * config.samples, len(strategy.swaps)
        if scores <= swaps:
            notes.append(
                f"milp was told {scores} scores, too few for each of its {swaps} single swaps: take more --epochs"
            )
    return notes
