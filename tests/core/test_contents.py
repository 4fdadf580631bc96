import json

import pytest
import torch

from refiner.core.contents import contents, describe, from_json, to_json
from refiner.core.errors import DataError


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


def test_a_list_of_samples_comes_back_as_a_list() -> None:
    example = ([torch.ones(3, 8, 9), torch.ones(3, 7, 7)], [{"n": torch.ones(1)}] * 2)
    again = from_json(json.loads(json.dumps(to_json(example))))
    assert [len(part) for part in again] == [2, 2]
    assert isinstance(again[0], list)


def test_each_part_can_be_reached_by_its_steps() -> None:
    value = {"a": [torch.ones(1), 2], "b": None}
    for steps, part in contents(value):
        found = value
        for how, key in steps:
            found = how(found, key)
        assert found is part


@pytest.mark.parametrize(
    "document",
    [
        None, 3, {}, [3], {"dtype": "float32"}, {"shape": [1]}, {"shape": [1], "dtype": "load"},
        {"shape": [10**9, 10**9], "dtype": "float32"}, {"shape": [-1], "dtype": "float32"},
        {"shape": [1.5], "dtype": "int64"}, {"shape": "3", "dtype": "int64"}, {"samples": 3},
        {"keywords": [1]}, {"shape": [True], "dtype": "float32"}, {"shape": [1], "dtype": 7},
    ],
)  # fmt: skip
def test_what_is_no_example_input_is_one_line(document) -> None:
    with pytest.raises(DataError, match="the example input is written wrongly") as caught:
        from_json(document)
    assert "\n" not in str(caught.value)
