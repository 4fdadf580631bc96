import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    SequentialSampler,
    TensorDataset,
)

from refiner.core.errors import DataError
from refiner.core.randomness import seeded
from refiner.data.loaders import example_of, mixed, split_loader, without_lasting_workers
from refiner.data.tensor_loader import TensorLoader


def loader(count: int = 20, **options) -> DataLoader:
    return DataLoader(
        TensorDataset(torch.arange(float(count))[:, None], torch.zeros(count, dtype=torch.long)),
        batch_size=4,
        **options,
    )


def test_example_is_two_samples_of_the_inputs() -> None:
    assert torch.equal(example_of(loader()), torch.tensor([[0.0], [1.0]]))
    assert torch.equal(example_of([torch.ones(3, 2)]), torch.ones(2, 2))
    mapping = {"a": torch.ones(3), "b": torch.zeros(3), "y": torch.ones(3)}
    assert {k: len(v) for k, v in example_of([mapping]).items()} == {"a": 2, "b": 2}
    two = example_of([[[torch.ones(3), torch.zeros(3)], torch.ones(3)]])
    assert isinstance(two, tuple)
    assert [len(v) for v in two] == [2, 2]


def test_example_does_not_disturb_the_global_stream() -> None:
    state = torch.get_rng_state()
    example_of(loader(shuffle=True))
    assert torch.equal(state, torch.get_rng_state())


def test_loaders_that_give_nothing_or_raise_or_map_are_refused() -> None:
    def broken():
        raise OSError("disk gone")
        yield

    for bad, message in (
        ([], "no batch"),
        (broken(), "disk gone"),
    ):
        with pytest.raises(DataError, match=message):
            example_of(bad)


def test_split_keeps_settings_and_loses_nothing() -> None:
    train, val = split_loader(loader(shuffle=True, drop_last=True), seed=0)
    seen = [sorted(float(v) for x, _ in part for v in x) for part in (train, val)]
    assert len(seen[1]) == 4
    assert sorted(seen[0] + seen[1]) == [float(i) for i in range(20)]
    assert train.drop_last
    assert train.batch_size == val.batch_size == 4


def test_split_takes_its_share_of_each_class() -> None:
    data = TensorDataset(torch.zeros(20, 1), torch.zeros(20))
    data.targets = [0] * 10 + [1] * 10
    _, val = split_loader(DataLoader(data, batch_size=2), seed=0)
    assert sorted(i // 10 for i in val.dataset.indices) == [0, 0, 1, 1]


@pytest.mark.parametrize("targets", [[f"file{i}" for i in range(20)], [[1], [2, 3]], [{}] * 20])
def test_targets_that_are_no_classes_do_not_decide_the_split(targets) -> None:
    data = TensorDataset(torch.zeros(20, 1))
    data.targets = targets
    assert len(split_loader(DataLoader(data, batch_size=2), seed=0)[1].dataset) == 4


def test_a_loader_that_chooses_its_samples_is_not_split() -> None:
    from torch.utils.data import SubsetRandomSampler

    with pytest.raises(DataError, match="SubsetRandomSampler"):
        split_loader(loader(sampler=SubsetRandomSampler(range(10))), seed=0)
    with pytest.raises(DataError, match="too few"):
        split_loader(loader(count=1), seed=0)


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(DataError, match="val_loader"):
        split_loader([1, 2], seed=0)


def test_a_mixed_loader_gives_the_same_samples_in_another_order_each_pass() -> None:
    labels = torch.arange(4).repeat_interleave(8)
    images = torch.arange(32, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    scale = {"mean": torch.zeros(3), "std": torch.ones(3)}
    ordered = [
        TensorLoader(images, labels, batch_size=8, train=False, pad=1, flip=True, **scale),
        DataLoader(TensorDataset(images, labels), 8),
    ]
    for loader in ordered:
        assert [len(set(y.tolist())) for _, y in loader] == [1] * 4
        passes = []
        for seed in (0, 1, 0):
            with seeded(seed):
                passes.append(list(mixed(loader)))
        for batches in passes:
            assert all(len(set(y.tolist())) > 1 for _, y in batches)
            assert torch.equal(torch.cat([y for _, y in batches]).sort().values, labels)
        seen = [[y.tolist() for _, y in batches] for batches in passes]
        assert seen[0] == seen[2] != seen[1]
        values = {round(float(x.float().max()), 4) for b, _ in passes[0] for x in b}
        assert len(values) == 32, "nothing is augmented"
        assert [len(set(y.tolist())) for _, y in loader] == [1] * 4, (
            "the loader itself is as it was"
        )
    listed = [(images, labels)]
    assert mixed(listed) is listed
    shuffled = DataLoader(TensorDataset(images, labels), 8, shuffle=True)
    assert mixed(shuffled) is shuffled


class Stream(IterableDataset):
    def __len__(self):
        return 6

    def __iter__(self):
        yield from ((torch.zeros(1), i) for i in range(6))


def test_workers_that_last_are_ended_for_any_data_set() -> None:
    for kind in (
        DataLoader(Stream(), 2, num_workers=1, persistent_workers=True, prefetch_factor=3),
        DataLoader(Stream(), None, num_workers=1, persistent_workers=True),
        loader(num_workers=1, persistent_workers=True, shuffle=True),
    ):
        ended = without_lasting_workers(kind)
        assert not ended.persistent_workers
        assert (len(ended), ended.num_workers) == (len(kind), 1)
        assert ended.prefetch_factor == kind.prefetch_factor
    plain = loader()
    assert without_lasting_workers(plain) is plain


def test_what_cannot_be_split_is_refused_for_its_reason() -> None:
    with pytest.raises(DataError, match="an IterableDataset cannot be split. Give val_loader="):
        split_loader(DataLoader(Stream(), 2), seed=0)
    own = BatchSampler(SequentialSampler(range(20)), 4, drop_last=False)
    with pytest.raises(DataError, match="a batch_sampler of its own"):
        split_loader(DataLoader(loader().dataset, batch_sampler=own), seed=0)
    few = DataLoader(loader(count=36).dataset, 32, drop_last=True)
    with pytest.raises(DataError, match=r"leaves 29 of 36 samples.*batch size of 32.*at most 29"):
        split_loader(few, seed=0)


def test_an_example_comes_from_the_first_batch_that_is_not_empty() -> None:
    batches = [(torch.zeros(0, 2), torch.zeros(0)), (torch.ones(3, 2), torch.zeros(3))]
    assert torch.equal(example_of(batches), torch.ones(2, 2))


def test_the_images_of_a_detection_batch_are_one_argument() -> None:
    images = [torch.rand(3, 8, 8), torch.rand(3, 9, 7), torch.rand(3, 8, 8)]
    stacked = torch.rand(3, 3, 8, 8)
    assert torch.equal(example_of([(stacked, [{"boxes": 1}] * 3)]), stacked[:2])
    (found,) = example_of([(tuple(images), ({"boxes": 1},) * 3)])
    assert isinstance(found, list)
    assert [each.shape for each in found] == [(3, 8, 8), (3, 9, 7)]
