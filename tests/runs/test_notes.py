import pytest
import torch
from models import TinyResNet, batches, images

from refiner.runs.notes import search_notes, worse_for_tuning
from refiner.runs.report_data import Trained
from refiner.search.informing import Informing
from refiner.search.search import Search, SearchConfig
from refiner.search.strategies import INFORMED, make_strategy
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.task import Classification


def ended(strategy: str, samples: int) -> Search:
    torch.manual_seed(7)
    model = TinyResNet().eval()
    space = search_space(model, images())
    search = Search(
        Supernet(model, space), make_strategy(strategy, space.candidates, 0), Classification(),
        batches(2), batches(2, seed=1), devices=Devices.choose("cpu"),
        config=SearchConfig(
            epochs=1, warmup_epochs=0, trials=samples, samples=samples, top_k=1, train_weights=False
        ),
    )  # fmt: skip
    search.run()
    return search


def test_a_search_from_scratch_has_no_notes() -> None:
    search = ended("random", 2)
    assert search_notes(search, search.result.best.vector) == []


@pytest.mark.parametrize(("samples", "short"), [(3, True), (60, False)])
def test_a_note_says_where_milp_has_too_few_trials(samples: int, short: bool) -> None:
    search = ended("milp", samples)
    notes = search_notes(search, search.result.best.vector)
    swaps = sum(len(names) - 1 for names in search.supernet.candidates)
    assert swaps < 60
    expected = f"{samples} trials are too few for milp, which scores {swaps} single swaps first"
    assert [note.startswith(expected) for note in notes[1:]] == [True] * short


@pytest.mark.parametrize("strategy", INFORMED)
def test_a_note_says_why_a_search_did_without_estimates(strategy: str) -> None:
    search = ended(strategy, 60)
    notes = search_notes(search, search.result.best.vector)
    assert notes == [f"{search.strategy.instead}: {search.informing.reason}"]
    assert notes[0].endswith("and outputs that can be compared")


@pytest.mark.parametrize("strategy", INFORMED)
def test_a_note_says_what_estimates_cost_or_that_scores_contradicted_them(strategy: str) -> None:
    search = ended(strategy, 60)
    search.informing = Informing(evaluations=12)
    (note,) = search_notes(search, search.result.best.vector)
    assert "estimated in the time of 12 trials" in note
    search.strategy.refused = 0.125
    (note,) = search_notes(search, search.result.best.vector)
    assert note.startswith(search.strategy.instead)
    assert note.endswith("Kendall's tau of 0.12")


def test_a_note_says_where_fine_tuning_did_harm() -> None:
    trained = Trained(epochs=1, original=0.9, refined=0.81)
    (note,) = worse_for_tuning("accuracy", 0.86, trained)
    assert note.startswith("fine-tuning lowered the accuracy of the refined network from 0.8600 to")
    assert worse_for_tuning("accuracy", 0.81, trained) == []
    assert worse_for_tuning("accuracy", None, trained) == []
    assert worse_for_tuning("accuracy", 0.86, None) == []
