import pytest
import torch
from models import searched

import refiner


def test_a_search_keeps_to_its_budget() -> None:
    _, _, costed, _, found = searched(budget="macs=70%")
    assert all(costed.feasible.holds(each.vector) for each in found.top_k)


def test_a_search_of_a_trained_model_begins_with_distillation_and_keeps_the_weights() -> None:
    job, _, _, search, found = searched(distill=refiner.DistillConfig(steps=2))
    assert all(each.agreement is not None for each in found.top_k)
    zero = search.supernet.emit((0,) * len(search.supernet.candidates))
    weights = dict(job.model.named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in zero.named_parameters())


def test_the_seed_fixes_the_result() -> None:
    first, second = searched()[-1], searched()[-1]
    assert first == second
    assert first.best.score == pytest.approx(max(each.score for each in first.top_k))
