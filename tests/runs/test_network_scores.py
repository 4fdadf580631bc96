from dataclasses import replace

import pytest
import torch
from models import HeadTask, batches, searched
from torch.utils.data import DataLoader, TensorDataset

from refiner.core.surgery import copied
from refiner.runs.network_scores import has_head, score_network, score_networks, scores_outputs
from refiner.training.detection_task import Detection
from refiner.training.evaluation import evaluate
from refiner.training.lightning_task import LightningClassification, LightningLoss
from refiner.training.task import Classification


def test_a_network_is_scored_on_the_test_part_or_else_on_the_validation_part() -> None:
    job, *_ = searched()
    test = batches(3, seed=5)
    expected = [
        evaluate(copied(job.model), loader, job.task, job.devices)
        for loader in (job.val_loader, test)
    ]
    assert expected[0] != expected[1]
    for each, score in zip((job, replace(job, test_loader=test)), expected, strict=True):
        assert score_network(each, copied(job.model), job.task) == pytest.approx(score)


def test_scoring_draws_no_random_number_of_anyones() -> None:
    job, *_ = searched()
    generator = torch.Generator().manual_seed(4)
    images, labels = torch.randn(8, 3, 8, 8), torch.randint(10, (8,))
    loader = DataLoader(TensorDataset(images, labels), 4, shuffle=True, generator=generator)
    job = replace(job, test_loader=loader)
    states = torch.get_rng_state(), generator.get_state()
    first = score_network(job, copied(job.model), job.task)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(generator.get_state(), states[1])
    assert score_network(job, copied(job.model), job.task) == first


def test_each_network_takes_one_pass() -> None:
    job, *_ = searched()
    seen = []

    class Counted(list):
        def __iter__(self):
            seen.append(len(self))
            return super().__iter__()

    job = replace(job, test_loader=Counted(batches(2)))
    scores = score_networks(job, job.task, {"one": copied(job.model), "two": copied(job.model)})
    assert scores["one"] == scores["two"]
    assert seen == [2, 2]


def test_a_head_is_a_task_with_weights() -> None:
    assert has_head(HeadTask())
    assert not has_head(Classification())


def test_exports_are_scored_by_outputs_alone() -> None:
    assert scores_outputs(Classification())
    assert scores_outputs(LightningClassification())
    assert not scores_outputs(LightningLoss())
    assert not scores_outputs(Detection())
    assert not scores_outputs(HeadTask())
