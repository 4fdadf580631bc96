import pytest
import torch
from models import TinyResNet, images
from torch import nn

from refiner.core.errors import ModelError
from refiner.graph.tracing import trace_model


class Counts(nn.Module):
    """Gives other outputs with each call."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


def test_a_run_without_recording_confirms_the_recorded_ones() -> None:
    traced = trace_model(TinyResNet(), images())
    assert not traced.confirmed
    assert [run.training for run in traced.runs] == [False, True]
    traced.confirm()
    assert traced.confirmed


def test_a_model_that_does_not_repeat_is_refused() -> None:
    with pytest.raises(ModelError, match=r"module 1 \(Counts\)"):
        trace_model(nn.Sequential(nn.Conv2d(3, 4, 3), Counts()), images()).confirm()
