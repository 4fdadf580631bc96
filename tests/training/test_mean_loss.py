import pytest
import torch

from refiner.training.mean_loss import MeanLoss


def test_the_score_is_the_mean_over_samples_however_they_are_batched() -> None:
    task = MeanLoss()
    losses = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    parts = [task.sums_of(losses[:2].mean(), 2), task.sums_of(losses[2], 1)]
    assert task.score(parts[0] + parts[1]) == pytest.approx(-3.0)
    assert not parts[0].requires_grad
