"""Notes of a report on a finished search, and on what fine-tuning did."""

from refiner.cost.feasible import LEAST_USED
from refiner.runs.report_data import Trained
from refiner.search.informing import Informing, can_inform
from refiner.search.milp import MilpStrategy
from refiner.search.search import Search
from refiner.search.strategy import Checked
from refiner.space.architecture import Vector


def search_notes(search: Search, taken: Vector) -> list[str]:
    """Return the notes of a report on a finished search.

    Args:
        search: a finished one.
        taken: the architecture of its top-k that was chosen, which need not be the best.
    """
    return [
        *_unused_budget(search, taken),
        *_effects(search),
        *too_few_scores(search),
        *_no_refit(search),
    ]


def worse_for_tuning(metric: str, before: float | None, trained: Trained | None) -> list[str]:
    """Return a note where the refined network scores less after fine-tuning than before it."""
    if trained is None or before is None or trained.refined >= before:
        return []
    return [
        f"fine-tuning lowered the {metric} of the refined network from {before:.4f} to "
        f"{trained.refined:.4f}. Try a lower --lr, more training images, or --epochs 0"
    ]


def _no_refit(search: Search) -> list[str]:
    """Return a line where the top-k were scored without a refit, since it did not pay."""
    if search.scorer.refit is None or search.scorer.refit.pays is not False:
        return []
    return [
        "the top-k were scored without least squares front to back, which brought the first of "
        "them no nearer to the original"
    ]


def too_few_scores(search: Search) -> list[str]:
    """Return a line where the strategy gets fewer trials than it needs."""
    trials, strategy = search.config.trials if search.config.epochs else 0, search.strategy
    if not isinstance(strategy, MilpStrategy) or trials > len(strategy.swaps):
        return []
    if strategy.around is not None or (not search.scores and can_inform(strategy, search.scorer)):
        return []
    return [
        f"{trials} trials are too few for milp, which scores {len(strategy.swaps)} single swaps "
        "first. Give more --trials."
    ]


def _effects(search: Search) -> list[str]:
    """Return what the estimates of single swaps cost, or why the search did without them."""
    informing, strategy = search.informing, search.strategy
    if not isinstance(strategy, Checked) or informing == Informing():
        return []
    if informing.reason:
        return [f"{strategy.instead}: {informing.reason}"]
    if strategy.refused is not None:
        return [
            f"{strategy.instead}: the estimates of a few single swaps and their scores have a "
            f"Kendall's tau of {strategy.refused:.2f}"
        ]
    return [
        f"the effects of all single swaps were estimated in the time of {informing.evaluations} "
        "trials; the random search gets as many more"
    ]


def _unused_budget(search: Search, taken: Vector) -> list[str]:
    """Return a note where the best of the top-k leaves much of the budget unused."""
    if search.feasible is None or search.result is None or search.result.best.vector != taken:
        return []
    best, *others = (search.feasible.used(each.vector) for each in search.result.top_k)
    if best >= LEAST_USED or best >= max(others, default=0.0):
        return []
    return [f"{100 * best:.0f} % of the budget is used: the best of the top-k is a cheaper one"]
