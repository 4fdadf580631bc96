import json

import torch
from torch import nn

from refiner.core.inputs import (
    batch_size,
    call,
    call_arguments,
    describe,
    first_sample,
    from_json,
    tensors_in,
    to_json,
)


def test_tensor_tuple_and_mapping_call_a_model() -> None:
    class Two(nn.Module):
        def forward(self, a, b):
            return a - b

    a, b = torch.ones(2), torch.zeros(2)
    assert torch.equal(call(Two(), (a, b)), a)
    assert torch.equal(call(Two(), {"b": a, "a": b}), -a)
    assert call_arguments(a) == ((a,), {})


def test_batch_size_and_first_sample_follow_the_first_tensor() -> None:
    example = {"x": torch.zeros(3, 2), "table": torch.zeros(5, 2), "y": torch.zeros(3)}
    assert batch_size(example) == 3
    one = first_sample(example)
    assert [tuple(t.shape) for t in tensors_in(one)] == [(1, 2), (5, 2), (1,)]
    assert batch_size(torch.zeros(())) == 1


def test_describe_names_shapes() -> None:
    assert describe((torch.zeros(1, 3, 8, 8), torch.zeros(2))) == "1x3x8x8, 2"
    assert describe("text") == "str"


def test_a_described_input_comes_back_in_its_form() -> None:
    example = ({"x": torch.ones(2, 3), "mask": None}, torch.ones(2, dtype=torch.int64), 0.5)
    again = from_json(json.loads(json.dumps(to_json(example))))
    assert again[0]["x"].shape == (2, 3)
    assert again[0]["mask"] is None
    assert torch.equal(again[1], torch.zeros(2, dtype=torch.int64))
    assert again[2] == 0.5
    assert from_json(to_json(torch.ones(1))).shape == (1,)


def test_lists_are_batches_of_samples() -> None:
    images, targets = [torch.ones(3, 8, 9), torch.ones(3, 7, 7)], [{"n": torch.ones(1)}] * 2
    example = (images, targets)
    assert batch_size(example) == 2
    first = first_sample(example)
    assert [len(part) for part in first] == [1, 1]
    assert first[0][0].shape == (3, 8, 9)
    assert call_arguments(images) == ((images,), {})
    again = from_json(json.loads(json.dumps(to_json(example))))
    assert [len(part) for part in again] == [2, 2]
