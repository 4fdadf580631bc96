"""Labels that no output stands for, wherever they are held, are told at the start."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from refiner.core.errors import DataError
from refiner.data.tensor_loader import TensorLoader
from refiner.runs.first_look import look_first
from refiner.runs.job import Output, set_up
from refiner.training.devices import Devices

X = torch.randn(24, 3, 5, 5)
GOOD = torch.arange(24) % 4


class Items(Dataset):
    """Numbers the classes otherwise in its items than in its list."""

    def __init__(self, targets, shift: int) -> None:
        self.targets, self.shift = targets, shift

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int):
        return X[index], int(self.targets[index]) - self.shift


def check(train, val=None, outputs: int = 4, test=None) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(4, outputs))
    job = set_up(
        model, train, val or DataLoader(TensorDataset(X, GOOD % outputs), 8), task="classification",
        test_loader=test, example_input=None, seed=0, devices=Devices.choose("cpu"), output=Output(progress=False),
    )  # fmt: skip
    look_first(job, model, trained=False)


def loader(labels: torch.Tensor) -> DataLoader:
    return DataLoader(TensorDataset(X, labels), 8)


LAST = GOOD.clone()
LAST[-1] = 7


@pytest.mark.parametrize(
    "train",
    [
        loader(LAST),
        DataLoader(Subset(TensorDataset(X, LAST), range(4, 24)), 8),
        DataLoader(Items(LAST.tolist(), 0), 8),
        [(X[:8], GOOD[:8]), (X[16:], LAST[16:])],
        TensorLoader((255 * X).byte(), LAST, batch_size=8, mean=torch.zeros(3), std=torch.ones(3), train=True),
    ],
    ids=["tensors", "subset", "targets", "list", "memory"],
)  # fmt: skip
def test_one_label_far_behind_is_found(train) -> None:
    with pytest.raises(
        DataError, match=r"training labels run from 0 to 7, but .* 4 outputs \(0 to 3"
    ):
        check(train)


def test_labels_of_the_test_part_are_looked_at_too() -> None:
    with pytest.raises(DataError, match=r"test labels run from 0 to 7"):
        check(loader(GOOD), test=loader(LAST))


def test_labels_from_1_and_below_0_have_their_own_next_step() -> None:
    with pytest.raises(DataError, match=r"validation labels run from 1 to 4.*Subtract 1"):
        check(loader(GOOD), loader(GOOD + 1))
    with pytest.raises(
        DataError, match=r"training labels run from -1 to 2.*Number the classes from 0"
    ):
        check(loader(GOOD - 1))


def test_labels_that_are_left_out_or_numbered_otherwise_by_the_items_are_right() -> None:
    check(loader(torch.where(GOOD == 2, -100, GOOD)))
    check(DataLoader(Items((GOOD + 1).tolist(), 1), 8))

    def down(items):
        return torch.stack([x for x, _ in items]), torch.tensor([int(y) - 1 for _, y in items])

    check(DataLoader(TensorDataset(X, GOOD + 1), 8, collate_fn=down))


def test_labels_that_are_all_left_out_are_told() -> None:
    with pytest.raises(DataError, match="all 24 validation labels that were looked at are -100"):
        check(loader(GOOD), loader(torch.full((24,), -100)))
