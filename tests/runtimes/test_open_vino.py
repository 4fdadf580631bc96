import numpy as np
import pytest
import torch
from models import TinyResNet, images

from refiner.core.errors import ModelError
from refiner.runtimes.open_vino import OpenVino


def test_a_request_computes_what_the_network_computes() -> None:
    model, x = TinyResNet().eval(), images(2)
    outputs = OpenVino("no", 1).prepare(model, x)()
    with torch.no_grad():
        np.testing.assert_allclose(outputs[0], model(x).numpy(), rtol=1e-4, atol=1e-5)


def test_a_program_that_is_none_is_refused() -> None:
    with pytest.raises(ModelError, match="OpenVINO cannot hold this model"):
        OpenVino("no", 1).pass_of(b"nothing", {})
