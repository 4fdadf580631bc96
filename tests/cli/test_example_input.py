import pytest
from refiner.cli.example_input import example_input
from torch import nn

from refiner.core.errors import ConfigError


@pytest.mark.parametrize(
    ("size", "shape"), [("8", (2, 4, 8, 8)), ("4,6,5", (2, 4, 6, 5)), ("4,7", (2, 4, 7))]
)
def test_a_single_number_is_a_square_image_of_the_models_channels(size, shape) -> None:
    assert example_input(nn.Sequential(nn.Conv2d(4, 2, 1)), size, None).shape == shape


@pytest.mark.parametrize("size", ["wide", "3,0,4", "0", "-8"])
def test_a_size_that_is_none_is_refused(size) -> None:
    with pytest.raises(ConfigError, match="Write 3,224,224|such as 3,224,224"):
        example_input(nn.Conv2d(3, 2, 1), size, None)
