import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from refiner.core.errors import DataError
from refiner.training.labels import as_tensor, class_targets
from refiner.training.task import Classification, Segmentation

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
LABELS = torch.tensor([0, 1, 1])
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_integer_labels_of_any_type_count_alike(dtype: torch.dtype, shape) -> None:
    task, batch = Classification(), (LOGITS, LABELS.to(dtype).reshape(shape))
    assert task.loss(nn.Identity(), batch) == F.cross_entropy(LOGITS, LABELS)
    assert task.measure(nn.Identity(), batch).tolist() == [2, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64])
def test_shares_of_classes_are_labels(dtype: torch.dtype) -> None:
    shares = F.one_hot(LABELS, 2).to(dtype)
    if dtype.is_floating_point:
        shares[0] = torch.tensor([0.75, 0.25], dtype=dtype)
    task = Classification()
    expected = F.cross_entropy(LOGITS, shares.float())
    assert task.loss(nn.Identity(), (LOGITS, shares)) == expected
    assert task.measure(nn.Identity(), (LOGITS, shares)).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("logits", "labels", "says"),
    [
        (LOGITS, torch.ones(3, 2), "add up to 1"),
        (LOGITS, torch.full((3, 2), float("nan")), "add up to 1"),
        (LOGITS, LABELS.float(), "one integer label per sample"),
        (LOGITS[:, :1], LABELS, "Give the model two outputs"),
        (LOGITS, torch.zeros(3, 5), "one integer label per sample"),
    ],
)
def test_other_labels_are_refused(logits, labels, says: str) -> None:
    with pytest.raises(DataError, match=says):
        class_targets(logits, labels)


@pytest.mark.parametrize("dtype", [d for d in INTEGERS if d is not torch.bool])
@pytest.mark.parametrize("channel", [False, True])
def test_masks_of_any_type_give_the_same_confusion_matrix(dtype: torch.dtype, channel) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 21, (2, 8, 8), generator=generator)  # 20 x 21 does not fit 8 bits
    logits = F.one_hot(labels, 21).permute(0, 3, 1, 2).float() * 9
    task, masks = Segmentation(), labels.to(dtype)
    sums = task.measure(nn.Identity(), (logits, masks[:, None] if channel else masks))
    assert torch.equal(sums, torch.bincount(labels.flatten() * 22, minlength=441))
    assert task.score(sums.double()) == 1
    assert task.loss(nn.Identity(), (logits, masks)) == F.cross_entropy(logits, labels)


def test_the_ignored_label_of_uint8_masks_is_ignored() -> None:
    logits = torch.zeros(1, 2, 2, 2)
    mask = torch.tensor([[[0, 255], [0, 1]]], dtype=torch.uint8)
    assert Segmentation().measure(nn.Identity(), (logits, mask)).tolist() == [2, 0, 1, 0]
    with pytest.raises(DataError, match=r"label -1.*An int8 mask cannot hold 255"):
        Segmentation().measure(nn.Identity(), (logits, mask.to(torch.int8)))
    with pytest.raises(DataError, match="label 7, but the model has 2 classes"):
        Segmentation().measure(nn.Identity(), (logits, torch.full_like(mask, 7)))


def test_arrays_and_lists_are_labels_and_dicts_are_not() -> None:
    for labels in (LABELS.tolist(), LABELS.numpy(), tuple(np.array([0, 1, 1]))):
        assert torch.equal(as_tensor(labels, LOGITS), LABELS)
    with pytest.raises(DataError, match="a list of dict.*a task of your own"):
        as_tensor([{"boxes": LABELS}], LOGITS)
