import copy
from dataclasses import replace

import pytest
import torch
from models import batches, searched

import refiner
from refiner.runs.fine_tuning import fine_tune
from refiner.runs.selection import select
from refiner.training.loop import TrainResult


def selection_of(train, **options):
    job, settings, costed, search, found = searched(train=train, **options)
    return job, select(job, settings, costed, search, found, [])


def test_without_epochs_nothing_is_trained() -> None:
    job, selection = selection_of(None)
    assert fine_tune(job, None, selection) == (None, selection.baselines)
    assert fine_tune(job, refiner.TrainConfig(epochs=0), selection)[0] is None


def test_every_network_gets_its_score() -> None:
    config = refiner.TrainConfig(epochs=1)
    job, selection = selection_of(config, tests={"half": lambda network: 0.5})
    before = selection.refined.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    trained, baselines = fine_tune(job, config, selection)
    assert trained is not None
    assert trained.tests == (("half", 0.5, 0.5),)
    assert all(each.trained is not None for each in baselines)
    after = selection.refined.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_all_networks_have_the_same_teacher_the_original_too(monkeypatch) -> None:
    config = refiner.TrainConfig(epochs=1, teacher_weight=0.5)
    job, selection = selection_of(config)
    tasks = {}

    def note(job, config, name, network, task, **_):
        tasks[name] = task
        return TrainResult(score=0.5, test=None, losses=())

    monkeypatch.setattr("refiner.runs.fine_tuning.fine_tune_one", note)
    fine_tune(job, config, selection)
    assert {"original", "refined"} <= set(tasks)
    assert len(set(map(id, tasks.values()))) == 1
    assert tasks["original"].weight == pytest.approx(0.5)
    for ours, theirs in zip(
        tasks["original"].teacher.parameters(), job.model.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_scores_are_of_the_test_part_and_choices_of_the_validation_part(monkeypatch) -> None:
    config = refiner.TrainConfig(epochs=1)
    job, selection = selection_of(config)
    results = iter(TrainResult(score=0.25, test=0.5 + i / 10, losses=()) for i in range(9))
    names = []

    def train(network, train_loader, val_loader, task, *, test_loader, **_):
        assert (val_loader, test_loader) == (job.val_loader, job.test_loader)
        names.append(len(names))
        return next(results)

    job = replace(job, test_loader=batches(2))
    monkeypatch.setattr("refiner.runs.fine_tuning.train", train)
    trained, baselines = fine_tune(job, config, selection)
    assert (trained.original, trained.refined, trained.validation) == (0.5, 0.6, 0.25)
    assert [(each.trained, each.validation) for each in baselines] == [(0.7, 0.25), (0.8, 0.25)]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_with_the_teacher_alone_the_labels_have_no_say(weight: float) -> None:
    config = refiner.TrainConfig(epochs=1, teacher_weight=weight)
    job, selection = selection_of(config, distill=refiner.DistillConfig(steps=1))
    tuned = []
    for shift in (0, 1):
        data = [(x, (labels + shift) % 10) for x, labels in job.train_loader]
        networks = copy.deepcopy(selection)
        fine_tune(replace(job, train_loader=data), config, networks)
        tuned.append(networks.refined.state_dict())
    same = all(torch.equal(value, tuned[1][name]) for name, value in tuned[0].items())
    assert same == (weight == 1.0)
