"""What a report tells of a search that has ended."""

from torch import nn

from refiner.core.randomness import derive_seed, seeded
from refiner.core.surgery import copied
from refiner.cost.feasible import LEAST_USED
from refiner.search.milp import MilpStrategy
from refiner.search.search import Search
from refiner.space.architecture import Vector
from refiner.training.evaluation import evaluate


def search_notes(search: Search, model: nn.Module, taken: Vector, *, distilled: bool) -> list[str]:
    """Return lines for a report.

    Args:
        search: that has ended.
        taken: the finalist that was, which need not be the best.
        model: the original; where it was ``distilled`` it was trained, and its score is told.
        distilled: whether the candidates learned from it.
    """
    notes = []
    if distilled:
        zero = (0,) * len(search.supernet.candidates)
        given, anew = (_score(search, each) for each in (copied(model), search.scorer.emit(zero)))
        notes.append(
            f"the original as it was given: {search.task.metric} {given:.4f}; with norm statistics taken anew, as "
            f"for all other networks: {anew:.4f}"
        )
    if search.feasible is not None and search.result is not None:
        best, *others = (search.feasible.used(each.vector) for each in search.result.top_k)
        first = search.result.best.vector == taken
        if first and best < LEAST_USED and best < max(others, default=0.0):
            notes.append(
                f"{100 * best:.0f} % of the budget are used: of all finalists a cheaper one came out best"
            )
    if search.scorer.agreement is not None:
        notes.append(
            "the search was rewarded by agreement to the original's outputs, and its finalists are compared by it: 0 is "
            "the original itself, and the further below 0, the further from it"
        )
    return [*notes, *too_few_scores(search)]


def too_few_scores(search: Search) -> list[str]:
    """Return a line where the strategy gets fewer trials than it needs."""
    trials, strategy = search.config.trials if search.config.epochs else 0, search.strategy
    if not isinstance(strategy, MilpStrategy) or trials > len(strategy.swaps):
        return []
    return [
        f"{trials} trials are too few for milp, which scores {len(strategy.swaps)} single swaps "
        "first. Give more --trials."
    ]


def _score(search: Search, network: nn.Module) -> float:
    # A loader may draw from the global generator.
    with seeded(derive_seed(search.seed, "given"), search.generators):
        batches = search.devices.batches(search.val_loader)
        return evaluate(search.devices.move(network), batches, search.task, search.devices)
