import torch
from models import images, searched

import refiner
from refiner.runs.comparison import Baseline
from refiner.runs.selection import select


def selected(**options):
    job, settings, costed, search, found = searched(**options)
    return job, select(job, settings, costed, search, found, ["first"])


def test_without_fine_tuning_the_refined_network_alone_is_made() -> None:
    _, selection = selected()
    assert list(selection.networks) == ["refined"]
    assert selection.notes[0] == "first"
    assert {each.kind for each in selection.baselines} == {"random", "uniform"}


def test_what_is_fine_tuned_from_scratch_begins_as_the_model_was_given() -> None:
    job, selection = selected(train=refiner.TrainConfig(epochs=1))
    x = images()
    original = selection.networks["original"]
    assert torch.equal(original.eval()(x), job.model.eval()(x))
    assert {"original", "refined"} <= set(selection.networks)


def test_a_baseline_equal_to_the_refined_network_is_not_trained_twice(monkeypatch) -> None:
    def equal(search, space, *_):
        best = search.result.best
        return [
            Baseline(kind=kind, name=kind, vector=vector, macs=1, params=1, search_score=0.5)
            for kind, vector in (("random", best.vector), ("uniform", (0,) * len(best.vector)))
        ]

    monkeypatch.setattr("refiner.runs.selection.find_baselines", equal)
    _, selection = selected(train=refiner.TrainConfig(epochs=1))
    assert any(selection.architecture.vector)
    assert set(selection.networks) == {"original", "refined", "uniform"}
    assert [selection.network_of(each) for each in selection.baselines] == ["refined", "uniform"]
