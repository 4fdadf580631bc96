import pytest
import torch
from models import images
from torch import nn

from refiner.core.errors import ModelError
from refiner.runtimes.compiled import Compiled


class Failing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, 7, 1000)


def test_a_model_that_fails_when_it_is_compiled_is_named() -> None:
    with pytest.raises(ModelError, match=r"torch\.compile cannot hold this model"):
        Compiled(torch.device("cpu"), "no", 1).prepare(Failing(), images())
