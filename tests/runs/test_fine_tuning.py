import copy
from dataclasses import replace

import pytest
import torch
from models import searched

import refiner
from refiner.runs.fine_tuning import fine_tune
from refiner.runs.selection import select


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


def test_the_refined_network_has_a_teacher_and_the_original_has_none(monkeypatch) -> None:
    config = refiner.TrainConfig(epochs=1, teacher_weight=0.5)
    job, selection = selection_of(config)
    tasks = {}

    def note(job, config, name, network, task, **_):
        tasks[name] = task
        return 0.5

    monkeypatch.setattr("refiner.runs.fine_tuning.fine_tune_one", note)
    fine_tune(job, config, selection)
    assert tasks["original"] is job.task
    assert tasks["refined"].weight == pytest.approx(0.5)


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
