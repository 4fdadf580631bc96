import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from refiner.core.errors import DataError
from refiner.runs.sampling import cut, first_batches, sample, samples_in
from refiner.training.devices import Devices

CPU = Devices.choose("cpu")


def loader(count: int, size: int = 16, **options) -> DataLoader:
    return DataLoader(
        TensorDataset(torch.randn(count, 3, 4, 4), torch.arange(count)), size, **options
    )


def pair(count: int):
    return torch.randn(count, 3), torch.arange(count)


@pytest.mark.parametrize(
    ("batch", "count"),
    [
        (pair(5), 5),
        (list(pair(5)), 5),
        ({"pixels": torch.randn(5, 3), "labels": torch.arange(5)}, 5),
        (([torch.randn(3, 4), torch.randn(3, 5)], [{"boxes": 1}, {"boxes": 2}]), 2),
        (([torch.randn(5, 3), torch.randn(5, 2)], torch.arange(5)), 5),
        (torch.randn(4, 3), 4),
        ((1, 2, 3), None),
        ("text", None),
    ],
)
def test_a_batch_is_cut_where_its_structure_tells_the_samples(batch, count) -> None:
    assert samples_in(batch) == count
    if count is not None:
        part = cut(batch, 0, 2)
        assert type(part) is type(batch)
        assert samples_in(part) == 2


def test_positional_arguments_and_samples_in_a_list_are_told_apart() -> None:
    (first, second), labels = cut(([torch.randn(5, 3), torch.randn(5, 2)], torch.arange(5)), 1, 2)
    assert first.shape == (1, 3)
    assert second.shape == (1, 2)
    assert labels.tolist() == [1]
    images, targets = cut(([torch.zeros(3, 4), torch.ones(3, 5)], [{"a": 1}, {"a": 2}]), 1, 2)
    assert [each.shape for each in images] == [(3, 5)]
    assert targets == [{"a": 2}]


def test_a_batch_of_three_images_with_three_channels_is_cut_by_images() -> None:
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 4, 5)
    for batch in (
        (tuple(images), ({"boxes": 1}, {"boxes": 2}, {"boxes": 3})),
        ([*images], [{"boxes": 1}, {"boxes": 2}, {"boxes": 3}]),
    ):
        assert samples_in(batch) == 3
        found, targets = cut(batch, 1, 3)
        assert [float(image[0, 0, 0]) for image in found] == [1, 2]
        assert [target["boxes"] for target in targets] == [2, 3]


def test_a_sample_holds_parts_up_to_a_number_of_images() -> None:
    parts = sample(loader(300, 100), CPU, images=150)
    assert [samples_in(part) for part in parts] == [64, 36, 50]
    assert torch.equal(torch.cat([part[1] for part in parts]), torch.arange(150))
    assert [samples_in(part) for part in sample(loader(10), CPU, images=150)] == [10]
    assert [samples_in(part) for part in sample(loader(65, 65), CPU, images=150)] == [64]
    late = sample(loader(100, 10), CPU, images=90, least=20, seconds=-1)
    assert [samples_in(part) for part in late] == [10, 10]


def test_the_first_batch_and_the_shortest() -> None:
    assert [samples_in(batch) for batch in first_batches(loader(33), CPU)] == [16, 1]
    assert [samples_in(batch) for batch in first_batches(loader(32), CPU)] == [16]
    with pytest.raises(DataError, match="no batch"):
        list(first_batches([], CPU))
