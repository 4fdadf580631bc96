import pytest
import torch

from refiner.core.batches import (
    batch_size,
    first_sample,
    inputs_and_target,
    inputs_of,
    is_empty,
    merged,
    of_size,
    pieces,
    rows_of,
)
from refiner.core.contents import tensors_in
from refiner.core.errors import DataError


def test_batch_size_and_first_sample_follow_the_first_tensor() -> None:
    example = {"x": torch.zeros(3, 2), "table": torch.zeros(5, 2), "y": torch.zeros(3)}
    assert batch_size(example) == 3
    one = first_sample(example)
    assert [tuple(t.shape) for t in tensors_in(one)] == [(1, 2), (5, 2), (1,)]
    assert batch_size(torch.zeros(())) == 1


def test_lists_are_batches_of_samples() -> None:
    images, targets = [torch.ones(3, 8, 9), torch.ones(3, 7, 7)], [{"n": torch.ones(1)}] * 2
    example = (images, targets)
    assert batch_size(example) == 2
    first = first_sample(example)
    assert [len(part) for part in first] == [1, 1]
    assert first[0][0].shape == (3, 8, 9)


def test_inputs_are_found_with_a_target_and_without() -> None:
    x = torch.zeros(2, 3)
    for batch in (x, [x], (x,), {"image": x}, [x, 1], {"image": x, "label": 1}):
        assert inputs_of(batch) is x
    with pytest.raises(DataError, match="a mapping of a, b"):
        inputs_of({"a": x, "b": x})


def test_a_batch_is_a_pair_or_names_its_target() -> None:
    assert inputs_and_target([1, 2]) == (1, 2)
    assert inputs_and_target({"x": 1, "label": 2}) == (1, 2)
    assert inputs_and_target({"a": 1, "b": 2, "y": 3}) == ({"a": 1, "b": 2}, 3)
    with pytest.raises(DataError, match="a tuple of 3"):
        inputs_and_target((1, 2, 3))


def test_a_batch_of_another_size_repeats_its_samples_in_turn() -> None:
    x = torch.arange(3.0)[:, None]
    assert of_size(x, 1).tolist() == [[0.0]]
    assert of_size((x, ["a", "b", "c"]), 5)[1] == ["a", "b", "c", "a", "b"]
    assert of_size({"x": x, "scale": torch.tensor(2.0)}, 4)["x"].flatten().tolist() == [0, 1, 2, 0]
    assert of_size({"x": x, "scale": torch.tensor(2.0)}, 4)["scale"].dim() == 0


def test_a_batch_without_samples_is_empty() -> None:
    none = torch.zeros(0, 3, 4, 4)
    assert is_empty((none, torch.zeros(0)))
    assert is_empty({"image": none, "label": torch.zeros(0)})
    assert not is_empty((torch.zeros(2, 3), {"boxes": torch.zeros(0, 4)}))
    assert not is_empty(("text", 3))


def test_paths_beside_the_images_of_a_batch_are_no_inputs() -> None:
    x, y = torch.zeros(2, 3, 4, 4), torch.zeros(2)
    batch = {"image": x, "label": y, "path": ["a.jpg", "b.jpg"], "split": "train"}
    assert inputs_and_target(batch) == (x, y)
    texts = {"text": ["a", "b"], "label": y, "language": "en"}
    assert inputs_and_target(texts)[0] == {"text": ["a", "b"], "language": "en"}


def test_batches_of_samples_are_merged() -> None:
    pairs = [(torch.full((n, 3), float(n)), torch.arange(n)) for n in (2, 4)]
    x, y = merged(pairs)
    assert x.shape == (6, 3)
    assert y.tolist() == [0, 1, 0, 1, 2, 3]
    assert merged([{"x": x, "labels": y} for x, y in pairs])["x"].shape == (6, 3)
    assert merged([torch.zeros(2, 3)] * 2).shape == (4, 3)


@pytest.mark.parametrize("batch", [
    ([torch.zeros(3, 8, 8)] * 3, torch.zeros(3)),  # a list of images
    (torch.zeros(5, 2), torch.zeros(2)),  # frames x samples
    (torch.zeros(2, 3), torch.zeros(())),
    (torch.zeros(2, 3), ["a", "b"]),
    (torch.zeros(2, 3), torch.zeros(2), torch.zeros(2)),  # of a task of its own
], ids=["list", "frames", "scalar", "texts", "triple"])  # fmt: skip
def test_others_are_not(batch) -> None:
    assert merged([batch, batch]) is None
    assert next(pieces(batch, 1)) is batch
    assert (
        merged([(torch.zeros(2, 3), torch.zeros(2)), (torch.zeros(2, 4), torch.zeros(2))]) is None
    )


def test_large_batches_come_in_pieces_and_others_whole() -> None:
    x, y = torch.arange(20.0).view(5, 4), torch.arange(5)
    (small,) = pieces([x, y], 25)
    assert small[0] is x
    parts = list(pieces([x, y], 12))  # two samples have ten numbers
    assert [len(each[1]) for each in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([each[0] for each in parts]), x)
    assert all(isinstance(each, list) for each in parts)
    assert len(list(pieces({"image": x, "label": y}, 1))) == 5
    assert len(list(pieces(x, 8))) == 3
    assert len(list(pieces(((x, x), y), 15))) == 5
    for other in (
        object(),
        (x, [0] * 5),
        (x, torch.arange(4)),
        (x, torch.tensor(0.0)),
    ):
        assert next(pieces(other, 1)) is other


def test_three_images_with_three_boxes_each_are_no_rows() -> None:
    """Every tensor of such a batch has three rows."""
    target = {"boxes": torch.rand(3, 4), "labels": torch.ones(3)}
    assert rows_of(((torch.rand(3, 8, 8),) * 3, (target,) * 3)) is None
