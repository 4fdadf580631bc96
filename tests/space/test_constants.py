import torch

from refiner.space.constants import Constant


def test_a_constant_has_the_dtype_of_its_input() -> None:
    x = torch.zeros(2, 1, 3, 3, dtype=torch.bfloat16)
    assert Constant(4, 2)(x).dtype == torch.bfloat16
    assert Constant(4, 2)(x.double()).dtype == torch.float64
