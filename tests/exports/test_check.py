import pytest
import torch
from models import TinyResNet, images

from refiner.core.errors import ModelError
from refiner.exports.check import attempts_in_turn, batch_note, compare


def test_other_values_are_compared_too() -> None:
    model = TinyResNet().eval()
    compare(model, model, images())
    with pytest.raises(AssertionError):
        compare(model, lambda x: model(x) * (1 if float(x[0, 0, 0, 0]) == first else 2), images())


first = float(images()[0, 0, 0, 0])


def test_other_batch_sizes_are_tried() -> None:
    model = TinyResNet().eval()
    assert batch_note(model, model, images()) == "any batch size"
    assert batch_note(model, lambda x: model(x)[:3], images()) == "batches of 2 alone"


def test_the_first_attempt_that_works_counts_and_errors_are_told() -> None:
    def fails() -> str:
        raise ValueError("no way")

    def disk() -> str:
        raise OSError(28, "No space left")

    assert attempts_in_turn("X", {"a": fails, "b": lambda: "made"}) == "made"
    with pytest.raises(ModelError, match="X cannot hold this model: a: ValueError: no way"):
        attempts_in_turn("X", {"a": fails})
    with pytest.raises(OSError, match="No space"):
        attempts_in_turn("X", {"a": disk, "b": lambda: "made"})


def test_an_output_without_tensors_cannot_be_compared() -> None:
    class Empty(torch.nn.Module):
        def forward(self, x):
            return None

    with pytest.raises(AssertionError, match="no tensor"):
        compare(Empty(), lambda _x: None, images())
