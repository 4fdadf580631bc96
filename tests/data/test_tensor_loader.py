import torch

from refiner.core.randomness import seeded
from refiner.data.tensor_loader import TensorLoader


def make(count: int = 10, train: bool = True, **options) -> TensorLoader:
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 4, 4)
    return TensorLoader(
        images,
        torch.arange(count),
        batch_size=options.pop("batch_size", 4),
        mean=torch.zeros(1),
        std=torch.full((1,), 1 / 255),
        train=train,
        **options,
    )


def labels(loader: TensorLoader) -> list[int]:
    return [int(y) for _, batch in loader for y in batch]


def test_validation_gives_every_image_in_order_and_training_full_batches_shuffled() -> None:
    assert labels(make(train=False)) == list(range(10))
    assert len(make(train=False)) == 3
    with seeded(0):
        first = labels(make())
    assert len(first) == 8
    assert len(set(first)) == 8
    assert first != sorted(first)


def test_the_global_seed_decides_as_for_a_dataloader() -> None:
    runs = []
    for seed in (0, 0, 1):
        with seeded(seed):
            runs.append(torch.cat([x for x, _ in make(pad=1, flip=True)]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_pixels_are_normalised() -> None:
    x, y = next(iter(make(train=False)))
    assert x.shape == (4, 1, 4, 4)
    assert torch.allclose(x[:, 0, 0, 0], y.float())


def test_crop_and_flip_move_pixels_and_pad_with_zeros() -> None:
    loader = make(count=64, batch_size=64, pad=2, flip=True)
    ramp = (torch.arange(16, dtype=torch.uint8) + 1).reshape(1, 1, 4, 4).repeat(64, 1, 1, 1)
    loader.images = ramp
    with seeded(0):
        x = next(iter(loader))[0].round()
    for image in x[:, 0]:
        rows = [row[row > 0] for row in image if (row > 0).any()]
        steps = {int(s) for row in rows for s in row.diff()}
        assert steps <= {1} or steps <= {-1}, image
    assert len({tuple(i.flatten().tolist()) for i in x}) > 10


def test_shards_are_disjoint_and_cover_the_validation_part() -> None:
    parts = [labels(make(train=False).shard(rank, 3)) for rank in range(3)]
    assert sorted(sum(parts, [])) == list(range(10))
    with seeded(0):
        a = labels(make(batch_size=2).shard(0, 2))
    with seeded(0):
        b = labels(make(batch_size=2).shard(1, 2))
    assert len(a) == len(b) == 4
    assert set(a).isdisjoint(b)
