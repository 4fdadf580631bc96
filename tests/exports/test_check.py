import pytest
import torch
from models import TinyResNet, images

from refiner.exports.check import check_output, compare, expected_output


def test_other_values_are_compared_too() -> None:
    model = TinyResNet().eval()
    compare(model, model, images())
    with pytest.raises(AssertionError):
        compare(model, lambda x: model(x) * (1 if float(x[0, 0, 0, 0]) == first else 2), images())


first = float(images()[0, 0, 0, 0])


def test_an_output_without_tensors_cannot_be_compared() -> None:
    class Empty(torch.nn.Module):
        def forward(self, x):
            return None

    with pytest.raises(AssertionError, match="no tensor"):
        compare(Empty(), lambda _x: None, images())


def test_one_input_is_compared_alone() -> None:
    model = TinyResNet().eval()
    expected = expected_output(model, images())
    check_output(
        lambda x: model(x) * (1 if float(x[0, 0, 0, 0]) == first else 2), images(), expected
    )
    with pytest.raises(AssertionError, match="1 outputs instead of 2"):
        check_output(lambda x: [x], images(), [images(), images()])
