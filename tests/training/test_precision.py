import pytest
import torch
from models import TinyResNet
from torch import nn

from refiner.core.errors import ModelError
from refiner.training.precision import check_weights


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        (torch.float16, r"stem\.weight is float16.*model\.float\(\).*\.half\(\) on the result"),
        (torch.bfloat16, r"stem\.weight is bfloat16.*call \.bfloat16\(\) on the result"),
    ],
)
def test_half_precision_is_refused_for_its_true_reason(dtype: torch.dtype, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        check_weights(TinyResNet().to(dtype))


def test_other_types_and_half_buffers_pass() -> None:
    check_weights(TinyResNet())
    check_weights(TinyResNet().double())
    model = nn.Sequential(TinyResNet())
    model.register_buffer("table", torch.ones(1).half())
    check_weights(model)


def test_a_model_on_the_meta_device_is_refused() -> None:
    with pytest.raises(ModelError, match="on the meta device"):
        check_weights(TinyResNet().to("meta"))
