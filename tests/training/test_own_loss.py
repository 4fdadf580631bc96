import pytest
import torch
from torch import nn

from refiner.core.errors import DataError
from refiner.training.own_loss import OwnLoss
from refiner.training.task import TASKS


class Own(nn.Module):
    """Gives its loss beside what it predicts, as models of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, pixels, labels=None):
        logits = self.layer(pixels)
        if labels is None:
            return {"logits": logits}
        return {"loss": (logits - labels).square().mean(), "logits": logits}


def batch(count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(count)
    return {"pixels": torch.randn(count, 3), "labels": torch.randn(count, 2)}


def test_the_score_does_not_depend_on_how_the_data_is_split() -> None:
    assert TASKS["own_loss"] is OwnLoss
    task, model, whole = OwnLoss(), Own(), batch(6)
    parts = [{k: v[a:b] for k, v in whole.items()} for a, b in ((0, 1), (1, 6))]
    split = sum(task.measure(model, part) for part in parts)
    assert task.score(split) == pytest.approx(task.score(task.measure(model, whole)), rel=1e-6)
    assert task.score(split) == pytest.approx(-float(task.loss(model, whole)), rel=1e-6)


def test_predictions_are_compared_and_no_loss() -> None:
    task, model, given = OwnLoss(), Own(), batch(4)
    assert torch.equal(task.compared(model(**given)), model(given["pixels"])["logits"])
    boxes = torch.zeros(4, 5)
    assert task.compared({"loss": torch.zeros(()), "boxes": boxes}) is boxes
    assert task.compared((torch.zeros(()), boxes)) is boxes
    task.run(model, given)
    task.run(model, {"pixels": given["pixels"], "mask_labels": given["labels"]})
    with pytest.raises(DataError, match="no tensor to compare"):
        task.compared({"loss": torch.zeros(())})


def test_batches_without_a_loss_are_named() -> None:
    task, model = OwnLoss(), Own()
    with pytest.raises(DataError, match="a batch is a tuple"):
        task.loss(model, (torch.zeros(1, 3), torch.zeros(1, 2)))
    with pytest.raises(DataError, match="gives no loss for a batch of pixels"):
        task.loss(model, {"pixels": torch.zeros(1, 3)})
