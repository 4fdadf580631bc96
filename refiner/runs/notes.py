"""Notes of a report on a finished search."""

from torch import nn

from refiner.core.randomness import derive_seed, seeded
from refiner.core.surgery import copied
from refiner.cost.feasible import LEAST_USED
from refiner.search.milp import MilpStrategy
from refiner.search.search import Search
from refiner.space.architecture import Vector
from refiner.training.evaluation import evaluate


def search_notes(search: Search, model: nn.Module, taken: Vector, *, distilled: bool) -> list[str]:
    """Return the notes of a report on a finished search.

    Args:
        search: a finished one.
        taken: the architecture of its top-k that was chosen, which need not be the best.
        model: the original; a ``distilled`` search adds its score.
        distilled: whether the candidates were distilled from the original.
    """
    notes = _original_scores(search, model) if distilled else []
    notes += _unused_budget(search, taken)
    if search.scorer.agreement is not None:
        notes.append(
            "the search compared architectures by agreement with the original: the negative KL "
            "divergence between their outputs, in nats; the original itself scores 0"
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


def _original_scores(search: Search, model: nn.Module) -> list[str]:
    """Return a note with the original's score, before and after BN recalibration."""
    zero = (0,) * len(search.supernet.candidates)
    given, again = (_score(search, each) for each in (copied(model), search.scorer.emit(zero)))
    metric = search.task.metric
    return [
        f"the original as given: {metric} {given:.4f}; after BN recalibration, which all other "
        f"networks get: {again:.4f}"
    ]


def _unused_budget(search: Search, taken: Vector) -> list[str]:
    """Return a note where the best of the top-k leaves much of the budget unused."""
    if search.feasible is None or search.result is None or search.result.best.vector != taken:
        return []
    best, *others = (search.feasible.used(each.vector) for each in search.result.top_k)
    if best >= LEAST_USED or best >= max(others, default=0.0):
        return []
    return [f"{100 * best:.0f} % of the budget is used: the best of the top-k is a cheaper one"]


def _score(search: Search, network: nn.Module) -> float:
    # A loader may draw from the global generator.
    with seeded(derive_seed(search.seed, "given"), search.generators):
        batches = search.devices.batches(search.val_loader)
        return evaluate(search.devices.move(network), batches, search.task, search.devices)
