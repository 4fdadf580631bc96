import torch
from models import images, searched

import refiner
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


def test_a_baseline_equal_to_the_refined_network_is_not_trained_twice() -> None:
    _, selection = selected(train=refiner.TrainConfig(epochs=1))
    for each in selection.baselines:
        name = selection.network_of(each)
        assert name in selection.networks
        assert (name == "refined") == (each.vector == selection.architecture.vector)
