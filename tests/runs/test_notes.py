import pytest
import torch
from models import TinyResNet, batches, images

from refiner.runs.notes import search_notes
from refiner.search.search import Search, SearchConfig
from refiner.search.strategies import make_strategy
from refiner.space.search_space import search_space
from refiner.space.supernet import Supernet
from refiner.training.devices import Devices
from refiner.training.evaluation import evaluate
from refiner.training.task import Classification


def ended(strategy: str, samples: int, teacher: bool) -> tuple[Search, TinyResNet]:
    torch.manual_seed(7)
    model = TinyResNet().eval()
    space = search_space(model, images())
    search = Search(
        Supernet(model, space), make_strategy(strategy, space.candidates, 0), Classification(),
        batches(2), batches(2, seed=1), devices=Devices.choose("cpu"),
        teacher=model if teacher else None,
        config=SearchConfig(
            epochs=1, warmup_epochs=0, trials=samples, samples=samples, top_k=1, train_weights=False
        ),
    )  # fmt: skip
    search.run()
    return search, model


def test_a_search_from_scratch_has_no_notes() -> None:
    search, model = ended("random", 2, teacher=False)
    assert search_notes(search, model, search.result.best.vector, distilled=False) == []


def test_a_distilled_search_notes_the_score_of_the_original_and_what_agreement_is() -> None:
    search, model = ended("random", 2, teacher=True)
    state = torch.get_rng_state()
    given, rewards = search_notes(search, model, search.result.best.vector, distilled=True)
    assert torch.equal(torch.get_rng_state(), state)
    score = evaluate(model, batches(2, seed=1), Classification(), Devices.choose("cpu"))
    assert given.startswith(f"the original as given: accuracy {score:.4f}; after BN recalibration")
    recalibrated = evaluate(
        search.scorer.emit((0,) * 4), batches(2, seed=1), Classification(), Devices.choose("cpu")
    )
    assert given.endswith(f": {recalibrated:.4f}")
    assert "by agreement with the original" in rewards
    assert "in nats; the original itself scores 0" in rewards


@pytest.mark.parametrize(("samples", "short"), [(3, True), (60, False)])
def test_a_note_says_where_milp_has_too_few_trials(samples: int, short: bool) -> None:
    search, model = ended("milp", samples, teacher=False)
    notes = search_notes(search, model, search.result.best.vector, distilled=False)
    swaps = sum(len(names) - 1 for names in search.supernet.candidates)
    assert swaps < 60
    expected = f"{samples} trials are too few for milp, which scores {swaps} single swaps first"
    assert [note.startswith(expected) for note in notes] == [True] * short
