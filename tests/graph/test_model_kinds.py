import pytest
import torch
from models import TinyResNet
from torch import nn
from torch.ao.nn.quantized import ReLU6

from refiner.core.errors import ModelError
from refiner.graph.model_kinds import check_kind


@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (torch.compile, r"compiled by torch\.compile\. Give model\._orig_mod"),
        (nn.DataParallel, r"wrapped in DataParallel\. Give model\.module"),
        (torch.jit.script, "TorchScript module"),
        (lambda model: nn.Sequential(model, ReLU6()), "1 is quantised"),
    ],
)
def test_models_that_hide_their_modules_are_refused_with_the_next_step(wrap, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        check_kind(wrap(TinyResNet()))


def test_a_plain_model_with_a_scripted_part_passes() -> None:
    check_kind(nn.Sequential(TinyResNet(), torch.jit.script(nn.ReLU())))
