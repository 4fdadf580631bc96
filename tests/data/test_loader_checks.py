import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from refiner.core.errors import DataError
from refiner.data.loader_checks import (
    check_loader,
    check_single_samples,
    least_batch,
    no_batch,
    sample_count,
)
from refiner.data.tensor_loader import TensorLoader

IMAGE = torch.ones(3, 4, 4)


def loader(count: int, batch_size: int, **options) -> DataLoader:
    data = TensorDataset(torch.zeros(count, 3, 4, 4), torch.zeros(count, dtype=torch.long))
    return DataLoader(data, batch_size, **options)


class Stream(IterableDataset):
    def __iter__(self):
        yield IMAGE, 0


class Counted(Stream):
    def __len__(self):
        return 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (iter(loader(8, 4)), "the training loader is an iterator .* gives its batches only once"),
        ((batch for batch in loader(8, 4)), r"iterator \(generator\)"),
        (map(list, loader(8, 4)), r"iterator \(map\)"),
        (None, "is a NoneType, which gives no batches"),
        (DataLoader(Stream(), 4), r"since its Stream has no len\(\). Give that a __len__"),
        (loader(0, 4), "the training loader gives no batch. Give it data"),
        ([], "gives no batch"),
        (
            loader(36, 64, drop_last=True),
            "36 samples, fewer than its batch size of 64, and drop_last=True.* at most 36",
        ),
        (DataLoader(Counted(), 4, drop_last=True), "it has 3 samples"),
    ],
)
def test_a_loader_without_batches_is_refused_for_its_reason(given, says: str) -> None:
    with pytest.raises(DataError, match=says):
        check_loader(given, "training")


def test_loaders_that_can_be_passed_over_again_are_taken() -> None:
    for given in (loader(8, 4), [(IMAGE, 0)], DataLoader(Counted(), 4)):
        check_loader(given, "validation")
    assert str(no_batch(loader(8, 4), "test")) == "the test loader gives no batch. Give it data."


@pytest.mark.parametrize(
    ("given", "least", "samples"),
    [
        (loader(9, 4), 1, 9),
        (loader(8, 4), 4, 8),
        (loader(9, 4, drop_last=True), 4, 9),
        (loader(5, 16), 5, 5),
        (DataLoader(Counted(), 1), 1, len(Counted())),
        (DataLoader(Counted(), 2), None, len(Counted())),
        ([(torch.zeros(4, 2), 0), [torch.zeros(2, 2), torch.zeros(2)]], 2, None),
    ],
)
def test_the_shortest_batch_is_known_without_a_pass(given, least, samples) -> None:
    assert least_batch(given) == least
    assert sample_count(given) == samples


def test_the_shortest_batch_of_a_set_in_memory() -> None:
    images, one = torch.zeros(5, 3, 4, 4, dtype=torch.uint8), torch.ones(3)
    for train, least in ((True, 2), (False, 1)):  # training drops the last
        tensors = TensorLoader(images, torch.zeros(5), batch_size=2, mean=one, std=one, train=train)
        assert least_batch(tensors) == least
        assert sample_count(tensors) == 5


def test_a_norm_that_cannot_train_on_one_sample_is_named_before() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten()
    )
    example = torch.randn(2, 3, 4, 4)
    with pytest.raises(DataError, match=r"one sample, on which 2 \(BatchNorm2d\) cannot train"):
        check_single_samples(model, loader(9, 4), example)
    check_single_samples(model, loader(9, 4, drop_last=True), example)
    check_single_samples(model[:1], loader(9, 4), example)


def test_the_shortest_batch_of_detection_is_counted_in_images() -> None:
    def batch(count: int):
        return (IMAGE,) * count, ({"boxes": torch.zeros(0, 4)},) * count

    assert least_batch([batch(3), batch(2)]) == 2
