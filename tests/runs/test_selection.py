import pytest
import torch
from models import images, searched

import refiner
from refiner.core.surgery import copied
from refiner.runs.comparison import Baseline
from refiner.runs.selection import select
from refiner.training.evaluation import evaluate


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


def test_networks_of_a_trained_model_are_scored_before_fine_tuning() -> None:
    job, selection = selected(
        distill=refiner.DistillConfig(steps=1), train=refiner.TrainConfig(epochs=1)
    )
    given = evaluate(copied(job.model), job.val_loader, job.task, job.devices)
    assert selection.scores["original as given"] == given
    for name, network in selection.networks.items():
        score = evaluate(network, job.val_loader, job.task, job.devices)
        assert selection.scores[name] == pytest.approx(score)
    assert [each.score for each in selection.baselines] == [
        selection.scores[selection.network_of(each)] for each in selection.baselines
    ]
    assert selection.scores["original"] == pytest.approx(given)  # it keeps its own statistics


def test_networks_that_begin_untrained_have_no_score_before_training() -> None:
    _, selection = selected(train=refiner.TrainConfig(epochs=1))
    assert selection.scores == {}
    assert [each.score for each in selection.baselines] == [None, None]


def test_without_fine_tuning_the_weights_of_the_search_are_scored() -> None:
    _, selection = selected()
    assert "original as given" not in selection.scores
    assert selection.scores["refined"] == pytest.approx(selection.found.best.score)
    assert all(each.score == each.search_score for each in selection.baselines)
