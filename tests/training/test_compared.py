import pytest
import torch
from torch import nn

from refiner.training.compared import (
    compared_network,
    compared_output,
    main_output,
    outputs_of,
    uncompared_parts,
)


@pytest.mark.parametrize("kind", [list, tuple, lambda parts: dict(zip("abc", parts))])
def test_the_first_of_several_outputs_is_the_main_one(kind) -> None:
    main, other, features = torch.zeros(2, 3), torch.ones(2, 3), torch.ones(2, 5)
    output = kind([main, other, features])
    assert main_output(output) is main
    assert compared_output(object(), output) is main
    assert [each is x for each, x in zip(outputs_of(output), (main, other), strict=True)] == [
        True
    ] * 2
    assert outputs_of(main) == [main]


def test_a_task_may_say_what_is_compared() -> None:
    class Second:
        def compared(self, output):
            return output[1]

        def compared_network(self, model):
            return model[0]

        def uncompared(self, model):
            return ["1"]

    model = nn.Sequential(nn.Linear(1, 1))
    assert compared_output(Second(), (1, 2)) == 2
    assert compared_network(Second(), model) is model[0]
    assert compared_network(object(), model) is model
    assert uncompared_parts(Second(), model) == ("1",)
    assert uncompared_parts(object(), model) == ()
