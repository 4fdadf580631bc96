import math

import pytest
import torch
from torch import nn

from refiner.core.errors import ConfigError, DataError
from refiner.training.task import Classification, Regression, Segmentation, check_task, make_task

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


@pytest.mark.parametrize(
    "batch", [{"x": LOGITS}, {"y": LABELS}, (LOGITS,), (LOGITS, LABELS, LABELS)]
)
def test_batches_of_another_form_are_refused(batch) -> None:
    with pytest.raises(DataError, match="cannot find the inputs and the target"):
        Classification().loss(nn.Identity(), batch)


def test_outputs_of_another_form_are_refused() -> None:
    with pytest.raises(DataError, match="batch, classes"):
        Classification().loss(nn.Identity(), (torch.zeros(3, 2, 4, 4), LABELS))


def test_mappings_and_several_inputs_reach_the_model() -> None:
    class Two(nn.Module):
        def forward(self, left, right):
            return left - right

    task, zero = Classification(), torch.zeros_like(LOGITS)
    expected = task.loss(nn.Identity(), (LOGITS, LABELS))
    assert task.loss(nn.Identity(), {"image": LOGITS, "label": LABELS}) == expected
    for inputs in ([LOGITS, zero], (LOGITS, zero), {"right": zero, "left": LOGITS}):
        assert task.loss(Two(), (inputs, LABELS)) == expected
    assert task.loss(Two(), {"right": zero, "left": LOGITS, "labels": LABELS}) == expected


def test_auxiliary_outputs_count_four_tenths_and_are_not_scored() -> None:
    class Aux(nn.Module):
        def forward(self, x):
            return x, x.flip(1), x.mean()

    task = Classification()
    main = task.loss(nn.Identity(), (LOGITS, LABELS))
    flipped = task.loss(nn.Identity(), (LOGITS.flip(1), LABELS))
    assert task.loss(Aux(), (LOGITS, LABELS)) == pytest.approx(float(main + 0.4 * flipped))
    assert task.measure(Aux(), (LOGITS, LABELS)).tolist() == [2, 3]


def test_mean_iou_by_hand() -> None:
    # Predictions 0 0 1 1, labels 0 1 1 ignored: IoU 1/2, 1/2, and class 2 does not occur.
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 0, 0], logits[0, 1, 1] = 5.0, 5.0
    labels = torch.tensor([[[0, 1], [1, 255]]])
    task, model = Segmentation(), nn.Identity()
    sums = task.measure(model, (logits, labels))
    assert sums.tolist() == [1, 0, 0, 1, 1, 0, 0, 0, 0]
    assert task.score(sums.double()) == pytest.approx(0.5)
    p = math.exp(5) / (math.exp(5) + 2)
    wrong = 1 / (math.exp(5) + 2)
    expected = -(2 * math.log(p) + math.log(wrong)) / 3
    assert float(task.loss(model, ({"out": logits}["out"], labels))) == pytest.approx(expected)


def test_segmentation_outputs_of_another_size_and_in_mappings() -> None:
    class Half(nn.Module):
        def forward(self, x):
            return {"out": x[..., ::2, ::2], "aux": x[..., ::2, ::2]}

    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 1] = 1
    labels = torch.ones(1, 4, 4, dtype=torch.int64)
    task = Segmentation()
    assert task.score(task.measure(Half(), (logits, labels)).double()) == 1
    alone = task.loss(nn.Identity(), (logits, labels))
    assert float(task.loss(Half(), (logits, labels))) == pytest.approx(1.4 * float(alone))
    with pytest.raises(
        DataError,
        match=r"segmentation needs .*, and integer labels of shape .*and the loader torch",
    ):
        task.loss(nn.Identity(), (logits, LABELS))


def test_r2_by_hand() -> None:
    task, target = Regression(), torch.tensor([1.0, 2.0, 3.0])
    output = torch.tensor([[1.0], [2.0], [2.0]])  # errors 0 0 1; deviations from 2: 1 0 1
    sums = task.measure(nn.Identity(), (output, target))
    assert sums.tolist() == [3, 6, 14, 1]
    assert task.score(sums) == pytest.approx(0.5)
    assert float(task.loss(nn.Identity(), (output, target))) == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="regression needs"):
        task.loss(nn.Identity(), (output, torch.zeros(2)))


def test_tasks_are_made_by_name_and_checked() -> None:
    assert isinstance(make_task("segmentation"), Segmentation)
    with pytest.raises(ConfigError, match="classification, segmentation, regression"):
        make_task("no such task")
    for bad, message in (
        (object(), "lacks loss, measure, score, metric"),
        (Regression, "is the class Regression"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_task(bad)


def test_further_outputs_of_another_kind_count_nothing() -> None:
    class Mixed(nn.Module):
        def forward(self, x):
            return x, None, "text", x[:1], x.flip(1)

    task = Classification()
    main = task.loss(nn.Identity(), (LOGITS, LABELS))
    flipped = task.loss(nn.Identity(), (LOGITS.flip(1), LABELS))
    assert task.loss(Mixed(), (LOGITS, LABELS)) == pytest.approx(float(main + 0.4 * flipped))
