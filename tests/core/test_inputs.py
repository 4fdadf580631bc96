import torch
from torch import nn

from refiner.core.inputs import bind, call, call_arguments, fresh


def test_tensor_tuple_and_mapping_call_a_model() -> None:
    class Two(nn.Module):
        def forward(self, a, b):
            return a - b

    a, b = torch.ones(2), torch.zeros(2)
    assert torch.equal(call(Two(), (a, b)), a)
    assert torch.equal(call(Two(), {"b": a, "a": b}), -a)
    assert call_arguments(a) == ((a,), {})


def test_arguments_are_bound_to_parameter_names() -> None:
    class Two(nn.Module):
        def forward(self, a, b):
            return a - b

    positional, keywords = bind(Two(), {"b": 1, "a": 2})
    assert list((positional | keywords).items()) == [("a", 2), ("b", 1)]


def test_a_fresh_copy_keeps_the_input_from_writes() -> None:
    example = {"x": torch.zeros(2)}
    fresh(example)["x"].add_(1)
    assert torch.equal(example["x"], torch.zeros(2))
