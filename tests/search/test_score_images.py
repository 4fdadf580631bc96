import itertools

import pytest
import torch
from models import TinyResNet, batches, images
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from refiner.core.errors import DataError
from refiner.core.progress import Silent
from refiner.search.random_search import RandomStrategy
from refiner.search.score_images import ScoreImages
from refiner.search.scores import Scores
from refiner.search.search import Search, SearchConfig
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import Classification

A, B = (0, 1), (1, 0)
CPU = Devices.choose("cpu")


def shuffled() -> DataLoader:
    data = TensorDataset(torch.arange(12.0))
    return DataLoader(data, batch_size=2, shuffle=True, generator=torch.Generator())


def given(loader, count=1, *, in_order=False, seed=0) -> ScoreImages:
    own = getattr(loader, "generator", None)
    return ScoreImages(
        loader, count, in_order=in_order, devices=CPU, generators=[own] if own else [], seed=seed
    )


def numbers(found) -> list[list[float]]:
    return [torch.cat([each[0] for each in batches]).tolist() for batches in found]


@pytest.mark.parametrize("count", [1, 3])
def test_the_nth_score_of_every_architecture_is_on_the_nth_images(count) -> None:
    scores = Scores()
    loader = shuffled()
    first, again, other = numbers(given(loader, count).by_visit([A, A, B], scores))
    assert first == other != again
    assert len(first) == 2 * count
    scores.add([A, A], [1.0, 2.0])
    state = loader.generator.get_state()
    assert numbers(given(loader, count).by_visit([B, B], scores)) == [first, again]
    assert numbers(given(loader, count).by_visit([A], scores))[0] not in (first, again)
    assert torch.equal(loader.generator.get_state(), state)
    assert numbers(given(loader, count, seed=1).by_visit([B], scores)) != [first]


def test_images_in_use_are_drawn_once_and_others_are_let_go() -> None:
    found = given(shuffled())
    scores = Scores()
    [first] = found.by_visit([A], scores)
    assert found.by_visit([B], scores)[0] is first
    scores.add([A], [0.0])
    found.by_visit([A], scores)
    assert list(found._sets) == [1]


def test_a_fixed_order_is_gone_through() -> None:
    loader = DataLoader(TensorDataset(torch.arange(5.0)), batch_size=1)
    found = given(loader, 2, in_order=True)
    assert numbers(found.by_visit([A, A, A], Scores())) == [[0, 1], [2, 3], [4, 0]]
    assert numbers(itertools.islice(found.by_update(1), 3)) == [[2, 3], [4, 0], [1, 2]]


def test_each_update_has_its_own_images_where_a_pass_is_in_random_order() -> None:
    first, second, *_ = numbers(itertools.islice(given(shuffled(), 3).by_update(5), 2))
    assert sorted(first + second) == [float(n) for n in range(12)]


def test_a_loader_that_gives_nothing_is_refused() -> None:
    class Empty:
        def __len__(self) -> int:
            return 3

        def __iter__(self):
            return iter(())

    with pytest.raises(DataError, match="gave no batch"):
        given(Empty()).by_visit([A], Scores())


class Watches(Classification):
    """Remembers the images that each architecture was scored on."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def measure(self, model: nn.Module, batch) -> torch.Tensor:
        self.seen.append(float(batch[0].sum()))
        return super().measure(model, batch)


class Differently(RandomStrategy):
    same_images = False


@pytest.mark.parametrize("kind", [RandomStrategy, Differently])
def test_a_strategy_that_compares_all_scores_gets_them_on_the_same_images(kind) -> None:
    torch.manual_seed(0)
    model, task = TinyResNet(), Watches()
    space = search_space(model, images())
    validation = batches(4, seed=7)
    search = Search(
        Supernet(model, space),
        kind(space.candidates),
        task,
        batches(1),
        validation,
        list(validation),  # in an order of its own
        devices=CPU,
        config=SearchConfig(
            epochs=2, warmup_epochs=0, trials=6, samples=2, train_weights=False, top_k=1, front=0,
            recalibration_batches=1,
        ),
    )  # fmt: skip
    task.seen.clear()
    search._search(Silent(), "search", lambda _: None)
    assert search.trials == 6
    sums = {float(x.sum()) for x, _ in validation}
    scored = [each for each in task.seen if each in sums]
    assert len(scored) == 6
    assert len(set(scored)) == (1 if kind is RandomStrategy else 2)
