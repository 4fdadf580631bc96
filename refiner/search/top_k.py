"""The top-k: what a strategy recommends in the end, scored on the whole validation part."""

from collections.abc import Sequence
from functools import partial

from refiner.core.errors import ConfigError
from refiner.core.progress import Progress
from refiner.search.measured_limit import MeasuredLimit, nearest, recommended_within
from refiner.search.scoring import Scored, Scorer
from refiner.search.search_result import SearchResult
from refiner.search.strategy import Refitting, Strategy
from refiner.space.architecture import Vector

ROUNDS = 3
"""In which a strategy recommends if it learns from refitted networks."""


def score_top_k(
    strategy: Strategy,
    scorer: Scorer,
    count: int,
    others: Sequence[Vector],
    progress: Progress,
    limit: MeasuredLimit | None = None,
) -> SearchResult:
    """Score what a strategy recommends, and other architectures.

    Args:
        strategy: of a search that has evaluated its trials.
        scorer: of the search.
        count: how many architectures are recommended at most.
        others: architectures of other costs, for the Pareto front.
        progress: listener.
        limit: what recommended architectures have to keep to, as measured.

    Raises:
        ConfigError: there is nothing to score.
    """
    progress.begin("top-k", count + len(others))
    scored = _recommended(strategy, scorer, count, progress, limit)
    known = {each.vector for each in scored}
    scored += scorer.scored([vector for vector in others if vector not in known], progress)
    if not scored:
        raise ConfigError(
            f"{type(strategy).__name__} recommends no architecture. Let recommend return one."
        )
    scored.sort(key=lambda each: -each.objective)
    scorer.forget()
    progress.advance(0, **scorer.shown(scored[0]))
    progress.end()
    return SearchResult(best=scored[0], top_k=tuple(scored))


def _recommended(
    strategy: Strategy, scorer: Scorer, count: int, progress: Progress, limit: MeasuredLimit | None
) -> list[Scored]:
    """Score what a strategy recommends, in rounds if it learns from refitted networks.

    Where nothing keeps to the limit, what is nearest to it is scored.
    """
    recommended = list(dict.fromkeys(strategy.recommend(count)))
    if scorer.refits(recommended) and isinstance(strategy, Refitting):
        scored = _in_rounds(strategy, scorer, count, progress, limit)
    elif limit is None:
        scored = scorer.scored(recommended, progress)
    else:
        within = recommended_within(limit, strategy, strategy.recommend, count)
        scored = scorer.scored(within, progress)
    if not scored and limit is not None:
        return scorer.scored(nearest(limit, count), progress)
    return scored


def _in_rounds(
    strategy: Refitting, scorer: Scorer, count: int, progress: Progress, limit: MeasuredLimit | None
) -> list[Scored]:
    """Score what a strategy recommends, which learns from refitted networks in between."""
    scored: list[Scored] = []
    for i in range(min(ROUNDS, count)):
        share = count * (i + 1) // min(ROUNDS, count) - count * i // min(ROUNDS, count)
        scores = {each.vector: each.objective for each in scored}
        refitted = partial(strategy.recommend_refitted, scores=scores)
        if limit is None:
            vectors = list(dict.fromkeys(refitted(share)))
        else:
            vectors = recommended_within(limit, strategy, refitted, share)
        scored += scorer.scored([vector for vector in vectors if vector not in scores], progress)
    return scored
