import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from refiner.data.fingerprint import data_fingerprint
from refiner.data.tensor_loader import TensorLoader


def tensors(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 1, 4, 4, generator=generator), torch.arange(count) % 4


class Images(Dataset):
    """Keeps labels as torchvision's data sets do; the inputs come from a function."""

    def __init__(self, read=lambda i: torch.full((1, 4, 4), float(i)), count: int = 40) -> None:
        self.read, self.targets = read, [i % 4 for i in range(count)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int):
        return self.read(index), self.targets[index]


class Stream(IterableDataset):
    def __init__(self, first: int = 0) -> None:
        self.first = first

    def __iter__(self):
        return (torch.full((1, 2, 2), float(i)) for i in range(self.first, self.first + 9))


def tensor_loader(images, labels, **options) -> TensorLoader:
    half = torch.tensor([0.5])
    images = (images * 20 + 100).clamp(0, 255).to(torch.uint8)
    return TensorLoader(images, labels, batch_size=8, mean=half, std=half, train=True, **options)


def data_set(images, labels) -> DataLoader:
    return DataLoader(TensorDataset(images, labels), batch_size=8, shuffle=True)


def batches(images, labels) -> list:
    return list(zip(images.split(8), labels.split(8)))


def subset(images, labels) -> DataLoader:
    return DataLoader(Subset(TensorDataset(images, labels), range(30)), batch_size=8)


def samples(images, labels) -> DataLoader:
    return DataLoader(list(zip(images, labels)), batch_size=8)


FORMS = [tensor_loader, data_set, batches, subset, samples]


def differing(first: dict, second: dict) -> set[str]:
    return {key for key in {**first, **second} if first.get(key) != second.get(key)}


@pytest.mark.parametrize("form", FORMS)
def test_equal_data_are_equal_and_what_differs_is_named(form) -> None:
    images, labels = tensors()
    same = data_fingerprint(form(images, labels))
    assert data_fingerprint(form(images.clone(), labels.clone())) == same
    other = labels.clone()
    other[0] = 3
    assert "labels" in differing(same, data_fingerprint(form(images, other)))
    order = torch.arange(40)
    order[[0, 29]] = order[[29, 0]]
    moved = differing(same, data_fingerprint(form(images[order], labels[order])))
    assert "order" in moved
    assert "labels" not in moved or form is batches, "labels of whole batches change with it"
    brighter = images.clone()
    brighter[0] += 5
    assert differing(same, data_fingerprint(form(brighter, labels))) == {"inputs"}
    if form is not subset:
        fewer = data_fingerprint(form(images[:24], labels[:24]))
        assert "sizes" in differing(same, fewer)


def test_shuffling_and_batch_size_count() -> None:
    dataset = TensorDataset(*tensors())
    plain = data_fingerprint(DataLoader(dataset, batch_size=8))
    assert differing(plain, data_fingerprint(DataLoader(dataset, batch_size=8, shuffle=True))) == {
        "shuffling"
    }
    assert differing(plain, data_fingerprint(DataLoader(dataset, batch_size=4))) == {"sizes"}


def test_random_augmentation_counts_by_shape_alone_and_states_stay() -> None:
    own, numpy_own = random.Random(1), np.random.default_rng(1)
    torch_own = torch.Generator().manual_seed(1)

    def augmented(index: int) -> torch.Tensor:
        noise = own.random() + numpy_own.random() + torch.rand((), generator=torch_own)
        return torch.full((1, 4, 4), float(index)) + noise

    dataset = Images(augmented)
    dataset.generators = [own, numpy_own, torch_own]
    loader = DataLoader(dataset, batch_size=8, shuffle=True, generator=torch.Generator())
    states = [own.getstate(), numpy_own.bit_generator.state["state"]["state"]]
    states += [torch_own.get_state().tolist(), torch.get_rng_state().tolist(), random.getstate()]
    states += [loader.generator.get_state().tolist()]
    first = data_fingerprint(loader)
    assert states == [
        own.getstate(), numpy_own.bit_generator.state["state"]["state"],
        torch_own.get_state().tolist(), torch.get_rng_state().tolist(), random.getstate(),
        loader.generator.get_state().tolist(),
    ]  # fmt: skip
    own.random()
    assert data_fingerprint(loader) == first, "another state of augmentation is the same data"
    wide = DataLoader(Images(lambda i: torch.zeros(1, 4, 8)), batch_size=8, shuffle=True)
    assert "inputs" in differing(first, data_fingerprint(wide))


def test_augmentation_from_the_global_generators_is_repeated() -> None:
    loader = DataLoader(Images(lambda i: torch.rand(1, 4, 4) + i), batch_size=8)
    brighter = DataLoader(Images(lambda i: torch.rand(1, 4, 4) + i + 1), batch_size=8)
    first = data_fingerprint(loader)
    torch.rand(3)
    assert data_fingerprint(loader) == first
    assert differing(first, data_fingerprint(brighter)) == {"inputs"}


def test_only_some_samples_of_a_large_data_set_are_read() -> None:
    read = []

    def image(index: int) -> torch.Tensor:
        read.append(index)
        return torch.zeros(1)

    data_fingerprint(DataLoader(Images(image, count=100_000), batch_size=8))
    assert len(set(read)) == 16
    assert {0, 99_999} <= set(read)


def test_streams_and_loaders_of_ones_own() -> None:
    same = data_fingerprint(DataLoader(Stream(), batch_size=3))
    assert data_fingerprint(DataLoader(Stream(), batch_size=3)) == same
    other = data_fingerprint(DataLoader(Stream(1), batch_size=3))
    assert differing(same, other) == {"inputs"}
    with_workers = data_fingerprint(DataLoader(Stream(), batch_size=3, num_workers=2))
    assert "inputs" not in with_workers

    class Own:
        def __len__(self) -> int:
            return 2

        def __iter__(self):
            return iter([(torch.ones(2, 1), torch.zeros(2)), (torch.ones(2, 1), torch.ones(2))])

    assert data_fingerprint(Own()) == data_fingerprint(Own())


def test_files_count_by_name_and_size_wherever_the_folder_lies(tmp_path) -> None:
    class Files(Images):
        def __init__(self, root) -> None:
            super().__init__(lambda i: torch.zeros(1), count=3)
            self.samples = [(root / "a" / f"{i}.png", i % 2) for i in range(3)]

    found = []
    for name, size in (("one", 4), ("two", 4), ("three", 5)):
        (tmp_path / name / "a").mkdir(parents=True)
        for i in range(3):
            (tmp_path / name / "a" / f"{i}.png").write_bytes(bytes(size))
        found.append(data_fingerprint(DataLoader(Files(tmp_path / name), batch_size=1)))
    assert found[0] == found[1]
    assert differing(found[0], found[2]) == {"inputs"}


def test_a_data_set_that_fails_is_no_matter_here() -> None:
    def fails(_: int) -> torch.Tensor:
        raise OSError("gone")

    assert data_fingerprint(DataLoader(Images(fails), batch_size=8))["inputs"] == "OSError"
