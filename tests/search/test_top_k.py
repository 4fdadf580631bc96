import pytest
import torch
from models import TinyResNet, batches, images

from refiner.core.errors import ConfigError
from refiner.core.progress import Silent
from refiner.search.ranked_refit import RankedRefit
from refiner.search.scoring import Scorer
from refiner.search.top_k import score_top_k
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import Classification

VECTORS = [(0, 0, 0, k) for k in range(1, 4)] + [(0, 0, k, 1) for k in range(1, 4)]


class Fixed:
    """Recommends architectures in an order of its own, and others for refitted networks."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict]] = []

    def recommend(self, count: int) -> list:
        return VECTORS[:count]

    def recommend_refitted(self, count: int, scores: dict) -> list:
        self.seen.append((count, scores))
        return [v for v in reversed(VECTORS) if v not in scores][:count]


def scorer(pays: bool | None) -> Scorer:
    torch.manual_seed(7)
    model = TinyResNet().eval()
    return Scorer(
        Supernet(model, search_space(model, images())), Classification(), batches(2),
        batches(3, seed=1), devices=Devices.choose("cpu"), recalibration_batches=1, fixed=True,
        teacher=model, refit=None if pays is None else RankedRefit(lambda _: None, pays),
    )  # fmt: skip


@pytest.mark.parametrize("pays", [None, False])
def test_without_a_refit_what_is_recommended_is_scored_once(pays: bool | None) -> None:
    strategy = Fixed()
    others = [VECTORS[0], (1, 0, 0, 0)]
    found = score_top_k(strategy, scorer(pays), 4, others, Silent())
    assert sorted(each.vector for each in found.top_k) == sorted([*VECTORS[:4], (1, 0, 0, 0)])
    assert not strategy.seen
    objectives = [each.objective for each in found.top_k]
    assert objectives == sorted(objectives, reverse=True)
    assert found.best is found.top_k[0]


@pytest.mark.parametrize(("count", "rounds"), [(5, [1, 2, 2]), (2, [1, 1])])
def test_a_strategy_learns_from_refitted_networks_in_rounds(count: int, rounds: list[int]) -> None:
    strategy = Fixed()
    found = score_top_k(strategy, scorer(True), count, [], Silent())
    assert [asked for asked, _ in strategy.seen] == rounds
    assert [len(scores) for _, scores in strategy.seen] == [
        sum(rounds[:i]) for i in range(len(rounds))
    ]
    assert {each.vector for each in found.top_k} == set(VECTORS[::-1][:count])
    objective = {each.vector: each.objective for each in found.top_k}
    assert all(objective[v] == score for v, score in strategy.seen[-1][1].items())


def test_a_strategy_that_recommends_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="recommends no architecture"):
        score_top_k(Fixed(), scorer(None), 0, [], Silent())
