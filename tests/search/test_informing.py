import copy

import numpy as np
import pytest
import torch
from models import TinyResNet, batches, images
from torch import nn

from refiner.core.progress import Silent
from refiner.search.effects import Effects
from refiner.search.informing import Informing, can_inform, inform
from refiner.search.milp import MilpStrategy
from refiner.search.random_search import RandomStrategy
from refiner.search.scoring import Scorer
from refiner.search.search import Search, SearchConfig
from refiner.search.strategies import INFORMED, make_strategy
from refiner.search.strategy import Checked
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import Classification, Task

CPU = Devices.choose("cpu")


def scorer(*, fixed: bool = True, teacher: bool = True, task: Task | None = None) -> Scorer:
    torch.manual_seed(7)
    model = TinyResNet().eval()
    return Scorer(
        Supernet(model, search_space(model, images())), task or Classification(), batches(3),
        batches(2, seed=1), devices=CPU, recalibration_batches=2, fixed=fixed,
        teacher=model if teacher else None,
    )  # fmt: skip


def strategy(scores: Scorer) -> MilpStrategy:
    return MilpStrategy(scores.supernet.candidates)


def test_only_where_agreement_of_fixed_weights_is_searched_by_a_strategy_that_asks() -> None:
    each = scorer()
    assert can_inform(strategy(each), each)
    assert not can_inform(RandomStrategy(each.supernet.candidates), each)
    for other in (scorer(fixed=False), scorer(teacher=False)):
        new = strategy(other)
        assert "a trained model" in inform(new, other, batches(1), Silent()).reason
        assert new.around is None
        drawn = RandomStrategy(other.supernet.candidates)
        assert inform(drawn, other, batches(1), Silent()) == Informing()


def test_a_strategy_learns_the_effects_and_what_they_cost_is_kept() -> None:
    each = scorer()
    new = strategy(each)
    found = inform(new, each, batches(1), Silent())
    assert new.around is not None
    assert found == Informing(evaluations=max(map(len, each.supernet.candidates)) + 2)


def test_an_output_without_a_gradient_is_a_reason() -> None:
    class Cut(Classification):
        @torch.no_grad()
        def run(self, model: nn.Module, batch: object) -> torch.Tensor:
            return super().run(model, batch)

    each = scorer(task=Cut())
    new = strategy(each)
    assert inform(new, each, batches(1), Silent()).reason == "the main output has no gradient"
    assert new.around is None


def informed_search(name: str) -> Search:
    torch.manual_seed(7)
    model = TinyResNet().eval()
    space = search_space(model, images())
    return Search(
        Supernet(model, space), make_strategy(name, space.candidates, 0), Classification(),
        batches(4), batches(3, seed=1), devices=CPU, teacher=model,
        config=SearchConfig(
            epochs=4, warmup_epochs=0, trials=24, samples=3, top_k=3, train_weights=False
        ),
    )  # fmt: skip


@pytest.mark.parametrize("name", INFORMED)
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_an_informed_search_resumes_to_the_bit(
    name: str, epoch: int, tmp_path, monkeypatch
) -> None:
    for module in ("milp", "informed_controller"):  # nothing is distilled here
        monkeypatch.setattr(f"refiner.search.{module}.LEAST_TAU", -1.0)
    monkeypatch.setattr("refiner.search.informed_controller.STEPS", 8)
    whole, records, states = informed_search(name), [], []
    torch.save(whole.state_dict(), tmp_path / "0.pt")

    def keep(record: dict) -> None:
        records.append(record)
        states.append(copy.deepcopy(whole.state_dict()))
        torch.save(states[-1], tmp_path / f"{len(states)}.pt")

    expected = whole.run(on_epoch=keep)
    assert isinstance(whole.strategy, Checked)
    assert whole.strategy.refused is None
    resumed, seen = informed_search(name), []
    resumed.load_state_dict(torch.load(tmp_path / f"{epoch}.pt", weights_only=True))
    assert resumed.run(on_epoch=seen.append) == expected
    assert seen == records[epoch:]
    assert resumed.informing == whole.informing != Informing()


def test_estimates_that_scores_contradict_are_not_used() -> None:
    new = MilpStrategy([["original", "a", "b"]] * 4)
    gram = torch.diag(torch.arange(12.0)).double()
    gram[::3] = 0
    new.inform(Effects(sizes=(3,) * 4, gram_JJ=gram.numpy(), added_J=np.zeros(12)))
    asked = new.ask(9)
    new.tell(asked, [float(sum(vector) and 12 - 3 * i) for i, vector in enumerate(asked)])
    assert new.refused is None
    new.inform(Effects(sizes=(3,) * 4, gram_JJ=gram.numpy(), added_J=np.zeros(12)))
    new.scores.load_state_dict([])
    new.tell(asked, [float(i) for i in range(9)])
    assert new.refused == -1
    assert new.around is None
    assert new.recommend(1) == [(2, 2, 2, 2)]
