import math

import pytest
import torch
from torch import nn

from refiner.errors import DataError
from refiner.task import Classification

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
LABELS = torch.tensor([0, 1, 1])


def test_loss_and_score_by_hand() -> None:
    task, model = Classification(), nn.Identity()
    expected = sum(math.log(1 + math.exp(d)) for d in (-2, -1, 3)) / 3
    assert float(task.loss(model, (LOGITS, LABELS))) == pytest.approx(expected)
    sums = task.measure(model, (LOGITS, LABELS))
    assert sums.tolist() == [2, 3]
    assert task.score(sums) == pytest.approx(2 / 3)


def test_a_score_does_not_depend_on_the_cut() -> None:
    task, model = Classification(), nn.Identity()
    parts = task.measure(model, (LOGITS[:1], LABELS[:1])) + task.measure(
        model, (LOGITS[1:], LABELS[1:])
    )
    assert task.score(parts) == task.score(task.measure(model, (LOGITS, LABELS)))


@pytest.mark.parametrize("batch", [{"x": LOGITS}, (LOGITS,), (LOGITS, LABELS, LABELS)])
def test_batches_of_another_form_are_refused(batch) -> None:
    with pytest.raises(DataError, match="images, labels"):
        Classification().loss(nn.Identity(), batch)


def test_outputs_of_another_form_are_refused() -> None:
    with pytest.raises(DataError, match="batch, classes"):
        Classification().loss(nn.Identity(), (torch.zeros(3, 2, 4, 4), LABELS))
